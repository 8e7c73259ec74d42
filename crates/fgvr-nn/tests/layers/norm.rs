//! Batch norm.

use candle_core::{DType, Device, Tensor};
use fgvr_nn::ParameterGradients;
use fgvr_nn::layers::{After, BatchNorm, BatchNormConfig, relu};
use fgvr_nn::{Activation, NormMode, Parameters, Tape};
use fgvr_testkit::{Golden, GradCheck, assert_close, golden, gradcheck, normal};

use crate::support::{REL, bits, check, parameters_of, run, values, with_threads};

const FILE: &str = "nn_layers.safetensors";

/// A norm with the case's parameters and running statistics of (0.5, 2).
fn norm_of(golden: &Golden, case: &str) -> (BatchNorm, Parameters) {
    let get = |name: &str| golden.get(&format!("{case}.{name}"));
    let weight = get("weight");
    let full = |v: f32| Tensor::full(v, weight.shape(), &Device::Cpu).unwrap();
    let (parameters, vb) = parameters_of(&[
        ("weight", weight.clone()),
        ("bias", get("bias")),
        ("running_mean", full(0.5)),
        ("running_var", full(2.)),
    ]);
    (BatchNorm::new(weight.elem_count(), vb).unwrap(), parameters)
}

/// y, dx, the parameters' gradients and the residual's, of a golden case.
fn check_norm(golden: &Golden, case: &str, mode: NormMode, relu: bool, rel: f64) -> Parameters {
    let get = |name: &str| golden.get(&format!("{case}.{name}"));
    let (norm, parameters) = norm_of(golden, case);
    let residual = golden.tensors().get(&format!("{case}.residual"));

    let mut tape = Tape::recording();
    let x = tape.input(&get("x"), residual.is_none()).unwrap();
    let residual = residual.map(|r| tape.input(r, true).unwrap());
    let after = After {
        relu,
        residual: residual.as_ref(),
    };
    let y = norm.apply(&mut tape, &x, mode, after).unwrap();
    let y = tape.output(&y).unwrap();
    assert_close(&format!("{case} y"), y.as_tensor(), &get("y"), rel);
    let loss = (y.as_tensor() * get("dy")).unwrap().sum_all().unwrap();
    let mut gradients = ParameterGradients::default();
    let d_input = tape
        .backward(&loss.backward().unwrap(), &mut gradients)
        .unwrap()
        .unwrap();
    let name = if residual.is_some() {
        "d_residual"
    } else {
        "d_x"
    };
    assert_close(&format!("{case} {name}"), &d_input, &get(name), rel);
    for name in ["weight", "bias"] {
        let var = &parameters.all()[name];
        let name = format!("d_{name}");
        assert_close(
            &format!("{case} {name}"),
            gradients.get(var).unwrap(),
            &get(&name),
            rel,
        );
    }
    if residual.is_some() {
        check_input_beside_residual(golden, case, mode, relu, rel);
    }
    parameters
}

/// A tape returns one input's gradient: here that of x, with the residual as a constant.
fn check_input_beside_residual(golden: &Golden, case: &str, mode: NormMode, relu: bool, rel: f64) {
    let get = |name: &str| golden.get(&format!("{case}.{name}"));
    let (norm, _) = norm_of(golden, case);
    let outcome = run(&get("x"), Some(&get("dy")), |tape, x| {
        let residual = tape.input(&get("residual"), false)?;
        let before = x.clone();
        let after = After {
            relu,
            residual: Some(&residual),
        };
        norm.apply(tape, &before, mode, after)
    });
    assert_close(&format!("{case} dx"), &outcome.dx, &get("d_x"), rel);
}

#[test]
fn batch_norm_is_pytorchs_and_updates_running_statistics() {
    let golden = golden(FILE);
    let cases = [
        ("norm.plain", false, REL),
        ("norm.relu", true, REL),
        ("norm.residual", false, REL),
        ("norm.residual_relu", true, REL),
        ("norm.one_place", false, REL),
        ("norm.wide", true, REL),
        ("norm.constant", false, REL),
        // (x - mean) is 1 of 1000: f32 holds the mean to 6e-5 of it.
        ("norm.far_mean", false, 2e-4),
    ];
    for (case, relu, rel) in cases {
        let parameters = check_norm(&golden, case, NormMode::Train, relu, rel);
        for name in ["running_mean", "running_var"] {
            let golden = golden.get(&format!("{case}.{name}"));
            assert_close(
                &format!("{case} {name}"),
                &parameters.all()[name],
                &golden,
                1e-6,
            );
        }
    }
}

#[test]
fn batch_norm_is_pytorchs_for_one_image_and_for_one_channel() {
    let golden = golden("nn_places.safetensors");
    for (case, relu) in [
        ("norm.batch_of_one", false),
        ("norm.batch_of_one_relu", true),
        ("norm.one_channel", false),
        ("norm.one_channel_of_one_image", true),
        ("norm.many_channels", false),
        ("norm.column", true),
    ] {
        let parameters = check_norm(&golden, case, NormMode::Train, relu, REL);
        for name in ["running_mean", "running_var"] {
            let name_of_case = format!("{case}.{name}");
            let golden = golden.get(&name_of_case);
            assert_close(&name_of_case, &parameters.all()[name], &golden, 1e-6);
        }
    }
    check_norm(&golden, "norm.one_value", NormMode::Eval, true, REL);
}

#[test]
fn split_takes_statistics_per_group_and_updates_with_their_mean() {
    let golden = golden(FILE);
    let mode = NormMode::Split {
        groups: 3,
        update: true,
    };
    let parameters = check_norm(&golden, "norm.split", mode, true, REL);
    for name in ["running_mean", "running_var"] {
        assert_close(
            name,
            &parameters.all()[name],
            &golden.get(&format!("norm.split.{name}")),
            1e-6,
        );
    }
    let mode = NormMode::Split {
        groups: 3,
        update: false,
    };
    let parameters = check_norm(&golden, "norm.split", mode, true, REL);
    assert_eq!(values(&parameters.all()["running_var"]), [2.; 5]);
}

#[test]
fn eval_uses_running_statistics_even_for_one_value() {
    let parameters = check_norm(&golden(FILE), "norm.eval", NormMode::Eval, true, REL);
    assert_eq!(values(&parameters.all()["running_mean"]), [0.5; 5]);
}

#[test]
fn no_update_leaves_running_statistics_bit_identical() {
    let golden = golden(FILE);
    let (norm, parameters) = norm_of(&golden, "norm.plain");
    let x = golden.get("norm.plain.x");
    run(&x, None, |t, x| {
        norm.apply(t, x, NormMode::Train, After::NOTHING)
    });
    let before: Vec<_> = parameters.buffers().values().map(|v| bits(v)).collect();
    let no_update = run(&x, None, |t, x| {
        norm.apply(t, x, NormMode::NoUpdate, After::NOTHING)
    });
    run(&x, None, |t, x| {
        norm.apply(t, x, NormMode::Eval, After::RELU)
    });
    let after: Vec<_> = parameters.buffers().values().map(|v| bits(v)).collect();
    assert_eq!(before, after);
    let train = run(&x, None, |t, x| {
        norm.apply(t, x, NormMode::Train, After::NOTHING)
    });
    assert_eq!(bits(&no_update.y), bits(&train.y));
    assert_eq!(bits(&no_update.dx), bits(&train.dx));
}

/// Naive batch norm of x (n, c, places), weight, bias, in `groups`.
fn reference(inputs: &[Vec<f64>], n: usize, c: usize, groups: usize) -> Vec<f64> {
    let (x, weight, bias) = (&inputs[0], &inputs[1], &inputs[2]);
    let places = x.len() / n / c;
    let index = |i: usize, ch: usize, p: usize| (i * c + ch) * places + p;
    let mut y = vec![0.; x.len()];
    for group in 0..groups {
        let images = group * (n / groups)..(group + 1) * (n / groups);
        for ch in 0..c {
            let each = || {
                images
                    .clone()
                    .flat_map(|i| (0..places).map(move |p| index(i, ch, p)))
            };
            let count = each().count() as f64;
            let mean = each().map(|i| x[i]).sum::<f64>() / count;
            let variance = each().map(|i| (x[i] - mean).powi(2)).sum::<f64>() / count;
            for i in each() {
                y[i] = (x[i] - mean) / (variance + 1e-5).sqrt() * weight[ch] + bias[ch];
            }
        }
    }
    y
}

#[test]
fn every_mode_has_the_gradient_of_differences() {
    let split = NormMode::Split {
        groups: 2,
        update: true,
    };
    for (mode, groups) in [(NormMode::Train, 1), (NormMode::NoUpdate, 1), (split, 2)] {
        for (shape, c) in [
            ((4, 3, 3, 2), 3),
            ((1, 2, 5, 3), 2),
            ((6, 4, 1, 1), 4),
            ((2, 65, 1, 2), 65),
        ] {
            let groups = groups.min((shape.0 / 2).max(1));
            let (_, vb) = parameters_of(&[
                ("weight", normal(5, c)),
                ("bias", normal(6, c)),
                ("running_mean", normal(7, c)),
                ("running_var", normal(8, c).abs().unwrap()),
            ]);
            let norm = BatchNorm::new(c, vb.clone()).unwrap();
            let get = |name| vb.get(c, name).unwrap();
            let vars = [&get("weight"), &get("bias")];
            let x = normal(4, shape);
            let plain = |x: &[Vec<f64>]| reference(x, shape.0, c, groups);
            let name = format!("batch_norm {mode:?} {shape:?}");
            check(
                &name,
                &x,
                &vars,
                |t, x| norm.apply(t, x, mode, After::NOTHING),
                plain,
            );
            let rectified = |x: &[Vec<f64>]| plain(x).iter().map(|v| v.max(0.)).collect();
            check(
                &name,
                &x,
                &vars,
                |t, x| norm.apply(t, x, mode, After::RELU),
                rectified,
            );
        }
    }
}

/// The gradient of z, where z feeds the norm (as `x = relu(z)`), the residual, and a leaf of its own.
#[test]
fn a_residual_that_is_consumed_elsewhere_gets_all_gradients() {
    let (n, c, places) = (2, 3, 4);
    let z = normal(9, (n, c, 2, 2));
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let norm = BatchNorm::new(c, vb).unwrap();
    let mut tape = Tape::recording();
    let input = tape.input(&z, true).unwrap();
    let x = relu(&mut tape, &input).unwrap();
    let y = norm
        .apply(&mut tape, &x, NormMode::Train, After::add_relu(&input))
        .unwrap();
    let again = norm
        .apply(&mut tape, &y, NormMode::Train, After::add_relu(&x))
        .unwrap();
    let leaves = [&input, &y, &again].map(|map: &Activation| tape.output(map).unwrap());
    let weights = [10, 11, 12].map(|seed| normal(seed, z.dims()));
    let terms: Vec<_> = leaves
        .iter()
        .zip(&weights)
        .map(|(l, w)| (l.as_tensor() * w).unwrap())
        .collect();
    let loss = Tensor::stack(&terms, 0).unwrap().sum_all().unwrap();
    let dz = tape
        .backward(
            &loss.backward().unwrap(),
            &mut ParameterGradients::default(),
        )
        .unwrap()
        .unwrap();

    let scalar = |z: &[f64]| -> f64 {
        let norm = |x: &[f64]| reference(&[x.to_vec(), vec![1.; c], vec![0.; c]], n, c, 1);
        let add_relu = |a: Vec<f64>, b: &[f64]| -> Vec<f64> {
            a.iter().zip(b).map(|(a, b)| (a + b).max(0.)).collect()
        };
        let x: Vec<f64> = z.iter().map(|v| v.max(0.)).collect();
        let y = add_relu(norm(&x), z);
        let again = add_relu(norm(&y), &x);
        let dot = |a: &[f64], w: &Tensor| a.iter().zip(values(w)).map(|(a, w)| a * w).sum::<f64>();
        dot(z, &weights[0]) + dot(&y, &weights[1]) + dot(&again, &weights[2])
    };
    assert_eq!(values(&z).len(), n * c * places);
    gradcheck(
        "block",
        scalar,
        &values(&z),
        &values(&dz),
        &GradCheck::f32_against_f64(),
    );
}

/// A ReLU that takes max(x, 0) with NaN = 0 would hide a network that has diverged.
#[test]
fn nan_in_the_input_or_the_residual_is_not_rectified_away() {
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let norm = BatchNorm::new(19, vb).unwrap();
    let healthy = normal(1, (2, 19, 3, 3));
    // Channel 7 of the first image, place 4.
    let at = 7 * 9 + 4;
    let mut values = healthy.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values[at] = f32::NAN;
    let sick = Tensor::from_vec(values, healthy.shape(), &Device::Cpu).unwrap();
    let nans = |x: &Tensor, residual: Option<&Tensor>, mode| -> Vec<usize> {
        let mut tape = Tape::inference();
        let x = tape.input(x, false).unwrap();
        let residual = residual.map(|r| tape.input(r, false).unwrap());
        let after = After {
            relu: true,
            residual: residual.as_ref(),
        };
        let y = norm.apply(&mut tape, &x, mode, after).unwrap();
        let y = crate::support::values(&y.to_tensor().unwrap());
        (0..y.len()).filter(|i| y[*i].is_nan()).collect()
    };
    let channel: Vec<usize> = (0..2)
        .flat_map(|image| (0..9).map(move |place| (image * 19 + 7) * 9 + place))
        .collect();
    for residual in [None, Some(&healthy)] {
        assert_eq!(nans(&sick, residual, NormMode::Eval), [at]);
        // Batch statistics carry it to the whole channel.
        assert_eq!(nans(&sick, residual, NormMode::NoUpdate), channel);
    }
    for mode in [NormMode::Eval, NormMode::NoUpdate] {
        assert_eq!(nans(&healthy, Some(&sick), mode), [at]);
    }
}

#[test]
fn one_value_per_channel_is_an_error_where_statistics_are_taken() {
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let norm = BatchNorm::new(3, vb).unwrap();
    let split = NormMode::Split {
        groups: 4,
        update: true,
    };
    for mode in [NormMode::Train, NormMode::NoUpdate, split] {
        let mut tape = Tape::recording();
        let x = tape.input(&normal(0, (1, 3)), false).unwrap();
        let error = norm
            .apply(&mut tape, &x, mode, After::NOTHING)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("need 2 or more values per channel, found 1 in 1 x 1 x 1"),
            "{error}"
        );
    }
}

#[test]
fn wrong_shapes_and_groups_are_errors() {
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let norm = BatchNorm::new(3, vb.pp("a")).unwrap();
    let mut tape = Tape::recording();
    let x = tape.input(&normal(0, (10, 3, 2, 2)), false).unwrap();
    let other = tape.input(&normal(0, (10, 3, 2, 1)), false).unwrap();
    let mut error = |norm: &BatchNorm, mode, after| {
        norm.apply(&mut tape, &x, mode, after)
            .unwrap_err()
            .to_string()
    };
    let split = |groups| NormMode::Split {
        groups,
        update: false,
    };
    assert!(
        error(&norm, split(4), After::NOTHING).contains("10 images do not divide into 4 groups")
    );
    assert!(error(&norm, split(0), After::NOTHING).contains("0 groups"));
    let residual = error(&norm, NormMode::Train, After::add_relu(&other));
    assert!(
        residual.contains("residual is [10, 2, 1, 3], expected [10, 2, 2, 3]"),
        "{residual}"
    );
    let four = BatchNorm::new(4, vb.pp("b")).unwrap();
    assert!(error(&four, NormMode::Train, After::NOTHING).contains("expected 4 channels, found 3"));
}

#[test]
fn a_small_batch_is_split_into_fewer_groups() {
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let norm = BatchNorm::new(2, vb).unwrap();
    let x = normal(1, (6, 2, 2, 2));
    let split = |groups| {
        let mode = NormMode::Split {
            groups,
            update: false,
        };
        bits(&run(&x, None, |t, x| norm.apply(t, x, mode, After::NOTHING)).y)
    };
    assert_eq!(split(8), split(3));
    assert_ne!(split(3), split(2));
}

#[test]
fn without_affine_there_are_no_variables_but_the_running_ones() {
    let parameters = Parameters::new(0);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let cfg = BatchNormConfig {
        affine: false,
        ..BatchNormConfig::default()
    };
    let norm = BatchNorm::with_config(3, &cfg, vb).unwrap();
    assert!(parameters.trainable().is_empty());
    let reference = |x: &[Vec<f64>]| reference(&[x[0].clone(), vec![1.; 3], vec![0.; 3]], 4, 3, 1);
    check(
        "no affine",
        &normal(2, (4, 3)),
        &[],
        |t, x| norm.apply(t, x, NormMode::Train, After::NOTHING),
        reference,
    );
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let x = normal(8, (6, 19, 60, 61));
    let run_once = || {
        let parameters = Parameters::new(0);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let norm = BatchNorm::new(19, vb).unwrap();
        let outcome = run(&x, None, |t, x| {
            let y = norm.apply(t, x, NormMode::Train, After::RELU)?;
            norm.apply(
                t,
                &y,
                NormMode::Split {
                    groups: 2,
                    update: true,
                },
                After::add_relu(x),
            )
        });
        let mut all = vec![bits(&outcome.y), bits(&outcome.dx)];
        all.extend(parameters.buffers().values().map(|v| bits(v)));
        all.extend(
            parameters
                .trainable()
                .values()
                .map(|v| bits(outcome.gradients.get(v).unwrap())),
        );
        all
    };
    let [one, two] = [1, 2].map(|threads| with_threads(threads, run_once));
    assert_eq!(one, two);
}
