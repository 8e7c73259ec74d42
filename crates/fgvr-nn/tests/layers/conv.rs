//! Convolution.

use candle_core::{DType, Device, Tensor};
use candle_nn::ModuleT;
use fgvr_nn::layers::{Conv2d, ConvConfig};
use fgvr_nn::{Parameters, Tape};
use fgvr_testkit::{assert_close, golden, normal};

use crate::autograd::compare;
use crate::support::{REL, check, check_golden, parameters};

/// (kernel, stride, padding, dilation, groups, c_in, c_out) of the golden file.
const CASES: [[usize; 7]; 6] = [
    [3, 1, 1, 1, 1, 5, 7],
    [3, 2, 1, 1, 1, 4, 6],
    [1, 2, 0, 1, 1, 6, 8],
    [7, 2, 3, 1, 1, 3, 4],
    [3, 1, 2, 2, 2, 4, 6],
    [3, 1, 1, 1, 4, 4, 4],
];

fn config([_, stride, padding, dilation, groups, ..]: [usize; 7]) -> ConvConfig {
    ConvConfig {
        stride,
        padding,
        dilation,
        groups,
        bias: true,
        ..ConvConfig::default()
    }
}

#[test]
fn conv2d_is_pytorchs() {
    let golden = golden("nn_layers.safetensors");
    for case in CASES {
        let [k, s, p, d, g, i, o] = case;
        let name = format!("conv.{k}_{s}_{p}_{d}_{g}_{i}_{o}");
        let (_, vb) = parameters(&golden, &name, &["weight", "bias"]);
        let conv = Conv2d::new(i, o, k, &config(case), vb).unwrap();
        let outcome = check_golden(&golden, &name, |t, x| conv.apply(t, x));
        for (what, tensor) in [
            ("d_weight", conv.weight()),
            ("d_bias", conv.bias().unwrap()),
        ] {
            let name = format!("{name}.{what}");
            assert_close(
                &name,
                outcome.gradients.get(tensor).unwrap(),
                &golden.get(&name),
                REL,
            );
        }
    }
}

#[test]
fn conv2d_has_the_gradient_of_differences() {
    for case in CASES {
        let [k, s, p, d, g, i, o] = case;
        let (n, h, w) = (1, k.max(4), k.max(5));
        let vb = Parameters::new(3).builder(DType::F32, &Device::Cpu);
        let conv = Conv2d::new(i, o, k, &config(case), vb).unwrap();
        let (oh, ow) = (
            (h + 2 * p - d * (k - 1) - 1) / s + 1,
            (w + 2 * p - d * (k - 1) - 1) / s + 1,
        );
        let (gi, go) = (i / g, o / g);
        let reference = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let (x, weight, bias) = (&inputs[0], &inputs[1], &inputs[2]);
            let mut y = Vec::new();
            for c in 0..o {
                for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                    let mut sum = bias[c];
                    for (ci, t) in (0..gi).flat_map(|ci| (0..k * k).map(move |t| (ci, t))) {
                        let (iy, ix) = (oy * s + t / k * d, ox * s + t % k * d);
                        if (p..p + h).contains(&iy) && (p..p + w).contains(&ix) {
                            let plane = c / go * gi + ci;
                            sum += x[(plane * h + iy - p) * w + ix - p]
                                * weight[(c * gi + ci) * k * k + t];
                        }
                    }
                    y.push(sum);
                }
            }
            y
        };
        let vars = [conv.weight(), conv.bias().unwrap()];
        check(
            &format!("conv {case:?}"),
            &normal(2, (n, i, h, w)),
            &vars,
            |t, x| conv.apply(t, x),
            reference,
        );
    }
}

#[test]
fn a_first_layer_gives_parameter_gradients_without_an_input_gradient() {
    let vb = Parameters::new(3).builder(DType::F32, &Device::Cpu);
    let conv = Conv2d::new(2, 3, 3, &ConvConfig::default(), vb).unwrap();
    let x = normal(1, (2, 2, 5, 5));
    let gradient = |wanted: bool| {
        let mut tape = Tape::recording();
        let input = tape.input(&x, wanted).unwrap();
        assert_eq!(tape.needs_gradient(&input), wanted);
        let y = conv.apply(&mut tape, &input).unwrap();
        let y = tape.output(&y).unwrap();
        let leaves = y
            .as_tensor()
            .sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap();
        let mut gradients = fgvr_nn::ParameterGradients::default();
        let dx = tape.backward(&leaves, &mut gradients).unwrap();
        assert_eq!(dx.is_some(), wanted);
        gradients.get(conv.weight()).unwrap().clone()
    };
    assert_close("d weight", &gradient(false), &gradient(true), 0.);
}

#[test]
fn weights_start_with_the_variance_of_kaiming_fan_out() {
    let vb = Parameters::new(3).builder(DType::F32, &Device::Cpu);
    let conv = Conv2d::new(16, 64, 3, &ConvConfig::default(), vb).unwrap();
    let variance = conv
        .weight()
        .sqr()
        .unwrap()
        .mean_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    let expected = 2. / (64. * 9.);
    assert!(
        (variance / expected - 1.).abs() < 0.05,
        "{variance} instead of {expected}"
    );
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    let vb = Parameters::new(3).builder(DType::F32, &Device::Cpu);
    let new =
        |c_in, c_out, kernel, cfg: ConvConfig| Conv2d::new(c_in, c_out, kernel, &cfg, vb.pp(c_in));
    let groups = ConvConfig {
        groups: 2,
        ..ConvConfig::default()
    };
    let error = new(3, 4, 3, groups).unwrap_err().to_string();
    assert!(
        error.contains("conv2d: 3 to 4 channels do not divide into 2 groups"),
        "{error}"
    );
    let stride = ConvConfig {
        stride: 0,
        ..ConvConfig::default()
    };
    assert!(
        new(4, 4, 3, stride)
            .unwrap_err()
            .to_string()
            .contains("a size is zero")
    );

    let conv = new(5, 4, 3, ConvConfig::default()).unwrap();
    let mut tape = Tape::recording();
    let mut apply = |x: &Tensor| {
        let x = tape.input(x, false).unwrap();
        conv.apply(&mut tape, &x).unwrap_err().to_string()
    };
    assert!(apply(&normal(0, (1, 4, 5, 5))).contains("conv2d: expected 5 channels, found 4"));
    let small = apply(&normal(0, (1, 5, 2, 5)));
    assert!(
        small.contains("a kernel of extent 3 does not fit the padded input, 2x5"),
        "{small}"
    );
}

#[test]
fn conv2d_as_a_module_has_the_tapes_gradients_also_on_a_transposed_input() {
    let parameters = Parameters::new(1);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let cfg = ConvConfig {
        stride: 2,
        padding: 1,
        bias: true,
        ..ConvConfig::default()
    };
    let conv = Conv2d::new(3, 4, 3, &cfg, vb).unwrap();
    compare(
        &normal(1, (2, 3, 5, 8)),
        &parameters,
        |x| conv.forward_t(x, true),
        |t, x| conv.apply(t, x),
    );

    let x = normal(1, (2, 3, 5, 8));
    let turned = x.transpose(2, 3).unwrap();
    let y = conv.forward_t(&turned, true).unwrap();
    assert_close(
        "transposed",
        &y,
        &conv.forward_t(&turned.contiguous().unwrap(), true).unwrap(),
        0.,
    );
}
