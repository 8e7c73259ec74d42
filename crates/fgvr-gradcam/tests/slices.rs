//! Plain values and tensors give the same bits.

#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use candle_core::{Device, Tensor};
use fgvr_gradcam::{ColourMap, Importance, Sign, slices};

/// Fixed, irregular values in (-1, 1).
fn pattern(count: usize, phase: f32) -> Vec<f32> {
    (0..count)
        .map(|i| (12.9898 * (i as f32 + 1.) + phase).sin())
        .collect()
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn slices_and_tensors_give_the_same_bits() {
    let (pooled, grad, mean) = (pattern(15, 0.), pattern(15, 1.), pattern(5, 2.));
    let (h, g, m) = (
        tensor(&pooled, &[3, 5]),
        tensor(&grad, &[3, 5]),
        tensor(&mean, &[5]),
    );
    for kind in [
        Importance::GradientTimesFeature,
        Importance::Centred,
        Importance::Gradient,
        Importance::Evidence,
    ] {
        let of_slices = slices::importance(&pooled, &grad, 5, kind, Some(&mean)).unwrap();
        let of_tensors = fgvr_gradcam::importance(&h, &g, kind, Some(&m)).unwrap();
        assert_eq!(of_slices, flat(&of_tensors), "{kind:?}");
    }

    let (map, grad) = (pattern(2 * 3 * 2 * 4, 3.), pattern(2 * 3 * 2 * 4, 4.));
    let shape = [2, 3, 2, 4];
    for sign in [Sign::RaisesLoss, Sign::LowersLoss] {
        let of_slices = slices::grad_cam(&map, &grad, shape, sign).unwrap();
        let of_tensors =
            fgvr_gradcam::grad_cam_signed(&tensor(&map, &shape), &tensor(&grad, &shape), sign);
        assert_eq!(of_slices, flat(&of_tensors.unwrap()));
        let image: Vec<f32> = pattern(3 * 6 * 5, 5.).iter().map(|v| v.abs()).collect();
        let of_slices =
            slices::overlay(&image, (6, 5), &of_slices[..8], (2, 4), ColourMap::Turbo).unwrap();
        let cam =
            fgvr_gradcam::grad_cam_signed(&tensor(&map, &shape), &tensor(&grad, &shape), sign);
        let cam = cam.unwrap().get(0).unwrap();
        let of_tensors =
            fgvr_gradcam::overlay(&tensor(&image, &[3, 6, 5]), &cam, ColourMap::Turbo).unwrap();
        assert_eq!(of_slices, flat(&of_tensors));
    }
}
