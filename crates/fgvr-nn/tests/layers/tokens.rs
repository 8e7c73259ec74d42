//! Layer norm, GELU, softmax and L2 normalisation.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::Module;
use fgvr_nn::layers::{Gelu, L2Normalise, LayerNorm, LayerNormConfig, Softmax};
use fgvr_nn::{Activation, Parameters, Tape};
use fgvr_testkit::{Golden, assert_close, golden, normal};

use crate::autograd::compare;
use crate::support::{
    REL, bits, check, check_golden, parameters, parameters_of, run, values, with_threads,
};

const FILE: &str = "nn_tokens.safetensors";

/// (N, C, H, W): one token, one channel, channels that fill no lane or one too many.
const SHAPES: [(usize, usize, usize, usize); 6] = [
    (1, 1, 1, 1),
    (1, 9, 1, 1),
    (2, 1, 2, 3),
    (2, 2, 3, 1),
    (2, 17, 1, 2),
    (1, 33, 1, 1),
];

fn full(value: f32, shape: (usize, usize, usize, usize)) -> Tensor {
    Tensor::full(value, shape, &Device::Cpu).unwrap()
}

/// `module`, which works over the last dimension, over the channels of (N, C, H, W).
fn over_channels(module: impl Fn(&Tensor) -> Result<Tensor>) -> impl Fn(&Tensor) -> Result<Tensor> {
    move |x| module(&x.permute((0, 2, 3, 1))?)?.permute((0, 3, 1, 2))
}

/// `f` of the channels of each place of (n, c, places), in place.
fn each_place(x: &[f64], c: usize, places: usize, f: impl Fn(&mut [f64])) -> Vec<f64> {
    let mut y = x.to_vec();
    for image in y.chunks_mut(c * places) {
        for p in 0..places {
            let mut channels: Vec<f64> = (0..c).map(|j| image[j * places + p]).collect();
            f(&mut channels);
            for (j, v) in channels.iter().enumerate() {
                image[j * places + p] = *v;
            }
        }
    }
    y
}

fn layer_norm_of(golden: &Golden, case: &str, eps: f64) -> LayerNorm {
    let (parameters, vb) = parameters(golden, case, &["weight", "bias"]);
    let channels = parameters.all()["weight"].elem_count();
    LayerNorm::new(channels, &LayerNormConfig { eps }, vb).unwrap()
}

#[test]
fn layer_norm_is_pytorchs() {
    let golden = golden(FILE);
    for case in [
        "plain",
        "one_channel",
        "one_token",
        "two_channels",
        "whole_lanes",
        "odd",
        "wide",
        "other_eps",
        "far_mean",
        "very_far_mean",
        "equal",
        "ties",
    ] {
        let name = format!("layer_norm.{case}");
        let eps = match case {
            "other_eps" => 1e-3,
            "two_channels" => 0.1,
            _ => 1e-6,
        };
        let norm = layer_norm_of(&golden, &name, eps);
        let outcome = check_golden(&golden, &name, |t, x| norm.apply(t, x));
        for (what, var) in [("d_weight", norm.weight()), ("d_bias", norm.bias())] {
            let name = format!("{name}.{what}");
            let gradient = outcome.gradients.get(var).unwrap();
            assert_close(&name, gradient, &golden.get(&name), REL);
        }
    }
}

#[test]
fn layer_norm_has_the_gradient_of_differences() {
    for (n, c, h, w) in SHAPES {
        let (_, vb) = parameters_of(&[("weight", normal(5, c)), ("bias", normal(6, c))]);
        // An eps of the variance's size, so that differences of a few channels stay smooth.
        let norm = LayerNorm::new(c, &LayerNormConfig { eps: 0.1 }, vb).unwrap();
        let reference = |inputs: &[Vec<f64>]| {
            each_place(&inputs[0], c, h * w, |x| {
                let mean = x.iter().sum::<f64>() / c as f64;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / c as f64;
                for ((x, w), b) in x.iter_mut().zip(&inputs[1]).zip(&inputs[2]) {
                    *x = (*x - mean) / (variance + 0.1).sqrt() * w + b;
                }
            })
        };
        check(
            &format!("layer_norm {n} {c} {h} {w}"),
            &normal(2, (n, c, h, w)),
            &[norm.weight(), norm.bias()],
            |t, x| norm.apply(t, x),
            reference,
        );
    }
}

#[test]
fn layer_norm_as_a_module_has_the_tapes_gradients() {
    for (n, c, h, w) in SHAPES {
        let (parameters, vb) = parameters_of(&[("weight", normal(5, c)), ("bias", normal(6, c))]);
        let norm = LayerNorm::new(c, &LayerNormConfig::default(), vb).unwrap();
        compare(
            &normal(2, (n, c, h, w)),
            &parameters,
            over_channels(|x| norm.forward(x)),
            |t, x| norm.apply(t, x),
        );
    }
}

#[test]
fn layer_norm_starts_as_plain_normalisation_under_pytorchs_names() {
    let parameters = Parameters::new(1);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let cfg = LayerNormConfig::default();
    assert_eq!(cfg.eps, 1e-6);
    LayerNorm::new(3, &cfg, vb.pp("norm")).unwrap();
    let all = parameters.trainable();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["norm.bias", "norm.weight"]);
    assert_eq!(values(&all["norm.weight"]), [1.; 3]);
    assert_eq!(values(&all["norm.bias"]), [0.; 3]);
}

#[test]
fn layer_norm_refuses_what_does_not_fit() {
    let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
    let new = |c, eps| LayerNorm::new(c, &LayerNormConfig { eps }, vb.clone());
    let complaint = new(0, 1e-6).unwrap_err().to_string();
    assert!(complaint.contains("layer_norm: 0 channels"), "{complaint}");
    for eps in [-1e-6, f64::NAN, f64::INFINITY] {
        let complaint = new(3, eps).unwrap_err().to_string();
        assert!(complaint.contains("eps"), "{complaint}");
    }
    let norm = new(3, 1e-6).unwrap();
    let mut tape = Tape::recording();
    let x = tape.input(&normal(0, (1, 4, 2, 2)), false).unwrap();
    let complaint = norm.apply(&mut tape, &x).unwrap_err().to_string();
    assert!(complaint.contains("layer_norm: expected 3 channels, found 4"));
    let complaint = norm.forward(&normal(0, (2, 3, 4))).unwrap_err().to_string();
    assert!(complaint.contains("last dimension, found [2, 3, 4]"));
    assert!(norm.forward(&normal(0, ())).is_err());
}

#[test]
fn a_nan_reaches_its_own_token_alone() {
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let norm = LayerNorm::new(19, &LayerNormConfig::default(), vb).unwrap();
    let mut x = normal(1, (3, 19)).to_vec2::<f32>().unwrap();
    x[1][17] = f32::NAN;
    let x = Tensor::new(x, &Device::Cpu).unwrap();
    let nans = |y: Tensor| -> Vec<usize> {
        let y = values(&y);
        (0..y.len()).filter(|i| y[*i].is_nan()).collect()
    };
    let token: Vec<usize> = (19..38).collect();
    assert_eq!(nans(norm.forward(&x).unwrap()), token);
    assert_eq!(nans(Softmax.forward(&x).unwrap()), token);
    assert_eq!(nans(L2Normalise::default().forward(&x).unwrap()), token);
    assert_eq!(nans(Gelu.forward(&x).unwrap()), [19 + 17]);
}

#[test]
fn gelu_is_pytorchs() {
    let golden = golden(FILE);
    for case in ["gelu", "gelu.one"] {
        check_golden(&golden, case, |t, x| Gelu.apply(t, x));
    }
    compare(
        &normal(1, (2, 3, 5, 1)),
        &Parameters::new(0),
        |x| Gelu.forward(x),
        |t, x| Gelu.apply(t, x),
    );
}

/// Φ by Simpson's rule on the density.
fn phi(x: f64) -> f64 {
    let density = |t: f64| (-0.5 * t * t).exp() / (2. * std::f64::consts::PI).sqrt();
    let (pieces, mut sum) = (200, 0.);
    let step = x / f64::from(pieces);
    for i in 0..pieces {
        let a = f64::from(i) * step;
        sum += density(a) + 4. * density(a + step / 2.) + density(a + step);
    }
    0.5 + sum * step / 6.
}

#[test]
fn gelu_has_the_gradient_of_differences() {
    for shape in SHAPES {
        check(
            "gelu",
            &(normal(2, shape) * 2.).unwrap(),
            &[],
            |t, x| Gelu.apply(t, x),
            |x| x[0].iter().map(|x| x * phi(*x)).collect(),
        );
    }
}

#[test]
fn softmax_is_pytorchs_also_with_equal_far_and_masked_values() {
    let golden = golden(FILE);
    for case in [
        "plain",
        "one_channel",
        "one_token",
        "wide",
        "ties",
        "equal",
        "far",
        "masked",
    ] {
        check_golden(&golden, &format!("softmax.{case}"), |t, x| {
            Softmax.apply(t, x)
        });
    }
}

#[test]
fn softmax_of_equal_values_gives_equal_shares() {
    for value in [0., -3e38, 3e38, 1e-40] {
        let outcome = run(&full(value, (2, 8, 1, 3)), None, |t, x| Softmax.apply(t, x));
        assert_eq!(values(&outcome.y), [0.125; 48]);
    }
}

#[test]
fn softmax_has_the_gradient_of_differences() {
    for (n, c, h, w) in SHAPES {
        let reference = |x: &[Vec<f64>]| {
            each_place(&x[0], c, h * w, |x| {
                let sum: f64 = x.iter().map(|x| x.exp()).sum();
                x.iter_mut().for_each(|x| *x = x.exp() / sum);
            })
        };
        let x = normal(2, (n, c, h, w));
        check("softmax", &x, &[], |t, x| Softmax.apply(t, x), reference);
        compare(
            &x,
            &Parameters::new(0),
            over_channels(|x| Softmax.forward(x)),
            |t, x| Softmax.apply(t, x),
        );
    }
    let complaint = Softmax.forward(&normal(0, ())).unwrap_err().to_string();
    assert!(complaint.contains("softmax: expected one dimension or more"));
}

#[test]
fn l2_normalise_is_pytorchs_also_of_the_zero_vector() {
    let golden = golden(FILE);
    for case in [
        "plain",
        "one_channel",
        "one_token",
        "vectors",
        "zero",
        "tiny",
        "ties",
        "large_eps",
    ] {
        let eps = if case == "large_eps" { 5. } else { 1e-12 };
        let l2 = L2Normalise { eps };
        check_golden(&golden, &format!("l2.{case}"), |t, x| l2.apply(t, x));
    }
}

#[test]
fn l2_normalise_has_the_gradient_of_differences() {
    for (n, c, h, w) in SHAPES {
        for eps in [1e-12, 1.5] {
            let reference = |x: &[Vec<f64>]| {
                each_place(&x[0], c, h * w, |x| {
                    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(eps);
                    x.iter_mut().for_each(|x| *x /= norm);
                })
            };
            let (x, l2) = (normal(2, (n, c, h, w)), L2Normalise { eps });
            let empty = Parameters::new(0);
            check("l2", &x, &[], |t, x| l2.apply(t, x), reference);
            compare(&x, &empty, |x| l2.forward(x), |t, x| l2.apply(t, x));
        }
    }
}

#[test]
fn l2_normalise_takes_lengths_whose_squares_are_no_floats() {
    let l2 = L2Normalise { eps: 1e-30 };
    for scale in [1e-25, 1., 1e25] {
        let x = (full(1., (1, 16, 1, 1)) * scale).unwrap();
        let outcome = run(&x, None, |t, x| l2.apply(t, x));
        assert_close("y", &outcome.y, &full(0.25, (1, 16, 1, 1)), 1e-6);
    }
}

#[test]
fn l2_normalise_refuses_an_eps_of_zero_and_a_single_dimension() {
    for eps in [0., -1., f64::NAN] {
        let l2 = L2Normalise { eps };
        let complaint = l2.forward(&normal(0, (2, 3))).unwrap_err().to_string();
        assert!(
            complaint.contains("expected an eps of more than 0"),
            "{complaint}"
        );
        let mut tape = Tape::recording();
        let x = tape.input(&normal(0, (2, 3)), false).unwrap();
        assert!(l2.apply(&mut tape, &x).is_err());
    }
    let complaint = L2Normalise::default().forward(&normal(0, 3)).unwrap_err();
    assert!(
        complaint
            .to_string()
            .contains("expected (N, C, ..), found [3]")
    );
}

#[test]
fn modules_over_the_last_dimension_take_any_rank() {
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let norm = LayerNorm::new(6, &LayerNormConfig::default(), vb).unwrap();
    let x = normal(1, (2, 3, 2, 6));
    for y in [norm.forward(&x).unwrap(), Softmax.forward(&x).unwrap()] {
        assert_eq!(y.dims(), x.dims());
    }
    let flat = x.reshape((12, 6)).unwrap();
    assert_eq!(
        bits(&norm.forward(&x).unwrap()),
        bits(&norm.forward(&flat).unwrap())
    );
    let sums = Softmax.forward(&x).unwrap().sum(D::Minus1).unwrap();
    assert_close("sums", &sums, &sums.ones_like().unwrap(), 1e-6);
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let x = normal(8, (3, 75, 31, 29));
    let (_, vb) = parameters_of(&[("weight", normal(5, 75)), ("bias", normal(6, 75))]);
    let norm = LayerNorm::new(75, &LayerNormConfig::default(), vb).unwrap();
    type Op<'a> = &'a (dyn Fn(&mut Tape, &Activation) -> Result<Activation> + Sync);
    let ops: [Op<'_>; 4] = [
        &|t, x| norm.apply(t, x),
        &|t, x| Gelu.apply(t, x),
        &|t, x| Softmax.apply(t, x),
        &|t, x| L2Normalise::default().apply(t, x),
    ];
    for op in ops {
        let [one, two] = [1, 2].map(|threads| {
            with_threads(threads, || {
                let outcome = run(&x, None, op);
                let of_weight = outcome.gradients.get(norm.weight()).map(bits);
                (bits(&outcome.y), bits(&outcome.dx), of_weight)
            })
        });
        assert_eq!(one, two);
    }
}
