//! Grad-CAM's kernels against their equations in f64.

mod support;

use fgvr_cuda::ops::importance::{Importance, Layout, MapShape, Sign, grad_cam, importance};
use fgvr_cuda::{Array, Result};
use support::{close, on_each_machine};

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn each_kind_of_importance_is_its_formula() {
    on_each_machine(|machine, random| {
        for (rows, channels) in [(3, 5), (7, 64), (2, 2048), (1, 1030), (5, 1)] {
            let len = rows * channels;
            let values = [
                random.normals(len, 0., 1.),
                random.normals(len, 0., 1.),
                random.normals(channels, 1., 1.),
            ];
            let [h, g, mean] = values.each_ref().map(|v| Array::from_f32(machine, v));
            let (h, g, mean) = (h?, g?, mean?);
            let [of_h, of_g, of_mean] = values.each_ref().map(|v| widened(v));
            let kinds: [(Importance<'_>, &dyn Fn(usize) -> f64); 4] = [
                (Importance::GradientTimesFeature, &|i| {
                    (of_h[i] * of_g[i]).abs()
                }),
                (Importance::Centred(&mean), &|i| {
                    ((of_h[i] - of_mean[i % channels]) * of_g[i]).abs()
                }),
                (Importance::Gradient, &|i| of_g[i].abs()),
                (Importance::Evidence, &|i| (-of_h[i] * of_g[i]).max(0.)),
            ];
            for (kind, formula) in kinds {
                let found = importance(machine, &h, &g, channels, kind)?.to_f32(machine)?;
                let expected: Vec<f64> = (0..len).map(formula).collect();
                close("importance", &found, &expected, 1e-6);
                assert!(found.iter().all(|v| v.is_sign_positive()));
            }
        }
        Ok(())
    });
}

#[test]
fn no_kind_hides_nan() {
    on_each_machine(|machine, _| {
        let (nan, one) = (
            Array::from_f32(machine, &[f32::NAN])?,
            Array::from_f32(machine, &[1.])?,
        );
        for kind in [
            Importance::GradientTimesFeature,
            Importance::Centred(&one),
            Importance::Gradient,
            Importance::Evidence,
        ] {
            let found = importance(machine, &one, &nan, 1, kind)?.to_f32(machine)?;
            assert!(found[0].is_nan());
        }
        let shape = shape(1, 1, 1, Layout::Planes);
        let cam = grad_cam(machine, &nan, &one, shape, Sign::RaisesLoss)?;
        assert!(cam.to_f32(machine)?[0].is_nan());
        Ok(())
    });
}

const fn shape(images: usize, places: usize, channels: usize, layout: Layout) -> MapShape {
    MapShape {
        images,
        places,
        channels,
        layout,
    }
}

#[test]
fn grad_cam_is_the_rectified_weighted_sum() {
    on_each_machine(|machine, random| {
        for layout in [Layout::ChannelsLast, Layout::Planes] {
            for (images, places, channels) in [(2, 49, 70), (1, 1, 512), (3, 65, 3), (2, 9, 33)] {
                let len = images * places * channels;
                let (map, grad) = (random.normals(len, 0.5, 1.), random.normals(len, 0., 1.));
                let arrays = [&map, &grad].map(|v| Array::from_f32(machine, v));
                let [of_map, of_grad] = arrays;
                let (of_map, of_grad) = (of_map?, of_grad?);
                let at = |image: usize, place: usize, channel: usize| match layout {
                    Layout::ChannelsLast => (image * places + place) * channels + channel,
                    Layout::Planes => (image * channels + channel) * places + place,
                };
                for (sign, factor) in [(Sign::RaisesLoss, 1.), (Sign::LowersLoss, -1.)] {
                    let mut expected = Vec::new();
                    for image in 0..images {
                        let weight = |c: usize| {
                            let sum: f64 =
                                (0..places).map(|p| f64::from(grad[at(image, p, c)])).sum();
                            factor * sum / places as f64
                        };
                        let weights: Vec<f64> = (0..channels).map(weight).collect();
                        expected.extend((0..places).map(|p| {
                            let of = |c: usize| weights[c] * f64::from(map[at(image, p, c)]);
                            (0..channels).map(of).sum::<f64>().max(0.)
                        }));
                    }
                    let shape = shape(images, places, channels, layout);
                    let cam = grad_cam(machine, &of_map, &of_grad, shape, sign)?;
                    close("cam", &cam.to_f32(machine)?, &expected, 2e-5);
                }
            }
        }
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, _| {
        let array = |len: usize| Array::from_f32(machine, &vec![0.; len]);
        let text = |found: Result<Array>| found.err().map(|e| e.to_string()).unwrap_or_default();
        let (six, four) = (array(6)?, array(4)?);
        assert_eq!(
            text(importance(machine, &six, &four, 3, Importance::Gradient)),
            "importance: gradient: expected 6 of F32, found 4 of F32"
        );
        assert_eq!(
            text(importance(
                machine,
                &six,
                &six,
                3,
                Importance::Centred(&four)
            )),
            "importance: mean: expected 3 of F32, found 4 of F32"
        );
        let of = |places| shape(1, places, 3, Layout::Planes);
        assert_eq!(
            text(grad_cam(machine, &six, &four, of(2), Sign::RaisesLoss)),
            "grad-cam: gradient: expected 6 of F32, found 4 of F32"
        );
        assert_eq!(
            text(grad_cam(machine, &six, &six, of(0), Sign::RaisesLoss)),
            "grad-cam: map: expected places and channels, found 0 and 3"
        );
        Ok(())
    });
}
