//! What EfficientNet-Lite is made of: TensorFlow's padding, depthwise convolutions, ReLU6, and an inverted
//! residual block of all of them.

use candle_core::{DType, Device, Result};
use candle_nn::{ModuleT, VarBuilder};
use fgvr_nn::layers::{
    ActivationFunction, BatchNormConfig, Conv2d, ConvConfig, ConvInput, ConvNorm, Finish, relu6,
};
use fgvr_nn::{Activation, NormMode, Parameters, Tape};
use fgvr_testkit::{assert_close, assert_close_values, golden, normal};

use crate::autograd::compare;
use crate::support::{REL, bits, check, check_golden, parameters, run, with_threads};

const FILE: &str = "nn_depthwise.safetensors";

/// (kernel, stride, groups, c_in, c_out, h, w) of the golden file.
const CASES: [[usize; 7]; 7] = [
    [3, 2, 1, 3, 8, 8, 10],
    [3, 2, 1, 3, 4, 7, 6],
    [3, 1, 24, 24, 24, 5, 6],
    [3, 2, 16, 16, 16, 8, 7],
    [5, 1, 20, 20, 20, 4, 9],
    [5, 2, 11, 11, 11, 10, 9],
    [5, 2, 8, 8, 8, 2, 3],
];

fn config(stride: usize, groups: usize) -> ConvConfig {
    ConvConfig {
        stride,
        groups,
        same: true,
        ..ConvConfig::default()
    }
}

#[test]
fn same_padding_and_depthwise_convolutions_are_pytorchs() {
    let golden = golden(FILE);
    for [k, s, g, i, o, h, w] in CASES {
        let name = format!("same.{k}_{s}_{g}_{i}_{o}_{h}_{w}");
        let (_, vb) = parameters(&golden, &name, &["weight"]);
        let conv = Conv2d::new(i, o, k, &config(s, g), vb).unwrap();
        let outcome = check_golden(&golden, &name, |t, x| conv.apply(t, x));
        let name = format!("{name}.d_weight");
        let found = outcome.gradients.get(conv.weight()).unwrap();
        assert_close(&name, found, &golden.get(&name), REL);
    }
}

#[test]
fn a_depthwise_convolution_has_the_gradient_of_differences() {
    for (kernel, stride, channels, h, w) in [(3, 2, 9, 4, 5), (5, 1, 3, 3, 6), (5, 2, 8, 5, 4)] {
        let vb = Parameters::new(3).builder(DType::F32, &Device::Cpu);
        let conv = Conv2d::new(channels, channels, kernel, &config(stride, channels), vb).unwrap();
        // TensorFlow's own words: ceil(size / stride) places; the zeros before are half of those needed,
        // rounded down.
        let along = |size: usize| {
            let places = size.div_ceil(stride);
            let needed = ((places - 1) * stride + kernel).saturating_sub(size);
            (places, needed / 2)
        };
        let ((out_h, top), (out_w, left)) = (along(h), along(w));
        let reference = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let (x, weight) = (&inputs[0], &inputs[1]);
            let mut y = Vec::new();
            for c in 0..channels {
                for (i, j) in (0..out_h).flat_map(|i| (0..out_w).map(move |j| (i, j))) {
                    let taps = (0..kernel * kernel).filter_map(|t| {
                        let row = (i * stride + t / kernel).checked_sub(top)?;
                        let column = (j * stride + t % kernel).checked_sub(left)?;
                        let inside = row < h && column < w;
                        let at = (c * h + row) * w + column;
                        inside.then(|| x[at] * weight[c * kernel * kernel + t])
                    });
                    y.push(taps.sum());
                }
            }
            y
        };
        check(
            &format!("depthwise {kernel} {stride} {channels}"),
            &normal(2, (1, channels, h, w)),
            &[conv.weight()],
            |t, x| conv.apply(t, x),
            reference,
        );
    }
}

#[test]
fn a_depthwise_convolution_on_candles_autograd_is_that_on_the_tape() {
    let parameters = Parameters::new(3);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let conv = Conv2d::new(12, 12, 3, &config(2, 12), vb).unwrap();
    compare(
        &normal(1, (2, 12, 6, 5)),
        &parameters,
        |x| conv.forward_t(x, true),
        |t, x| conv.apply(t, x),
    );
}

#[test]
fn relu6_is_pytorchs_and_has_no_gradient_at_its_ends() {
    check_golden(&golden(FILE), "relu6", relu6);
}

#[test]
fn two_kinds_of_padding_are_refused() {
    let vb = Parameters::new(1).builder(DType::F32, &Device::Cpu);
    let both = ConvConfig {
        padding: 1,
        ..config(1, 1)
    };
    let error = Conv2d::new(2, 2, 3, &both, vb).unwrap_err().to_string();
    assert!(error.contains("a padding of 1, too"), "{error}");
}

const CHANNELS: usize = 6;
const WIDE: usize = 18;

/// Expansion, depthwise convolution and projection; the input is added.
struct Block {
    expand: ConvNorm,
    depthwise: ConvNorm,
    project: ConvNorm,
}

impl Block {
    fn new(vb: &VarBuilder) -> Self {
        let norm = BatchNormConfig {
            eps: 1e-3,
            ..BatchNormConfig::default()
        };
        let layer = |channels, kernel, groups, i: usize| {
            let (conv, bn) = (vb.pp(format!("conv{i}")), vb.pp(format!("bn{i}")));
            ConvNorm::new(channels, kernel, &config(1, groups), conv, &norm, bn).unwrap()
        };
        Self {
            expand: layer([CHANNELS, WIDE], 1, 1, 1),
            depthwise: layer([WIDE, WIDE], 5, WIDE, 2),
            project: layer([WIDE, CHANNELS], 1, 1, 3),
        }
    }

    fn apply(&self, tape: &mut Tape, x: &Activation, mode: NormMode) -> Result<Activation> {
        let y = self.expand.apply(tape, x, mode)?;
        let y = self.depthwise.apply(tape, ConvInput::Relu6(y), mode)?;
        let y = self.project.apply(tape, ConvInput::Relu6(y), mode)?;
        y.add(tape, x)
    }

    /// The same, one layer after the other.
    fn plainly(&self, tape: &mut Tape, x: &Activation, mode: NormMode) -> Result<Activation> {
        let y = self.expand.apply(tape, x, mode)?;
        let y = y.activate(tape, ActivationFunction::Identity)?;
        let y = relu6(tape, &y)?;
        let y = self.depthwise.apply(tape, &y, mode)?;
        let y = y.activate(tape, ActivationFunction::Relu6)?;
        let y = self.project.apply(tape, &y, mode)?;
        let y = y.activate(tape, ActivationFunction::Identity)?;
        fgvr_nn::layers::add(tape, x, &y)
    }
}

/// (names of ours, names of the golden file)
const VARIABLES: [(&str, &str); 9] = [
    ("conv1.weight", "expand"),
    ("conv2.weight", "depthwise"),
    ("conv3.weight", "project"),
    ("bn1.weight", "bn1_weight"),
    ("bn1.bias", "bn1_bias"),
    ("bn2.weight", "bn2_weight"),
    ("bn2.bias", "bn2_bias"),
    ("bn3.weight", "bn3_weight"),
    ("bn3.bias", "bn3_bias"),
];

fn block(case: &str) -> (Parameters, Block) {
    let golden = golden(FILE);
    let parameters = Parameters::new(1);
    let block = Block::new(&parameters.builder(DType::F32, &Device::Cpu));
    for (ours, theirs) in VARIABLES {
        let values = golden.get(&format!("{case}.{theirs}"));
        parameters.all()[ours].set(&values).unwrap();
    }
    for (name, var) in parameters.buffers() {
        let value = if name.ends_with("var") { 0.7 } else { 0.2 };
        var.set(&var.as_tensor().affine(0., value).unwrap())
            .unwrap();
    }
    (parameters, block)
}

#[test]
fn an_inverted_block_is_pytorchs_by_batch_and_by_running_statistics() {
    for (case, mode) in [
        ("block.train", NormMode::Train),
        ("block.eval", NormMode::Eval),
    ] {
        let golden = golden(FILE);
        let (parameters, block) = block(case);
        let [x, dy, y, dx] = ["x", "dy", "y", "d_x"].map(|n| golden.get(&format!("{case}.{n}")));
        for fused in [true, false] {
            let outcome = run(&x, Some(&dy), |tape, x| match fused {
                true => block.apply(tape, x, mode),
                false => block.plainly(tape, x, mode),
            });
            assert_close(&format!("{case} y"), &outcome.y, &y, 2. * REL);
            assert_close(&format!("{case} dx"), &outcome.dx, &dx, 4. * REL);
            for (ours, theirs) in VARIABLES {
                let found = outcome.gradients.get(&parameters.all()[ours]).unwrap();
                let name = format!("{case}.d_{theirs}");
                assert_close(&name, found, &golden.get(&name), 4. * REL);
            }
        }
    }
}

#[test]
fn a_frozen_inverted_block_says_what_the_block_says() {
    let (_, block) = block("block.eval");
    let mut tape = Tape::inference();
    // Not the golden file's images: others, of another size, with a border of another shape.
    let x = normal(8, (3, CHANNELS, 9, 7));
    let x = tape.input(&x, false).unwrap();
    let expected = block.apply(&mut tape, &x, NormMode::Eval).unwrap();
    let [expand, depthwise, project] =
        [&block.expand, &block.depthwise, &block.project].map(|layer| layer.freeze().unwrap());
    let (y, shape) = expand
        .apply(x.data().unwrap(), x.shape(), Finish::Relu6)
        .unwrap();
    let (y, shape) = depthwise.apply(&y, shape, Finish::Relu6).unwrap();
    let finish = Finish::Add(x.data().unwrap());
    let (y, shape) = project.apply(&y, shape, finish).unwrap();
    assert_eq!(shape, expected.shape());
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    assert_close_values(
        "frozen",
        &wide(&y),
        &wide(expected.data().unwrap()),
        2. * REL,
    );
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let x = normal(3, (5, CHANNELS, 13, 11));
    let run_once = || {
        let (parameters, block) = block("block.train");
        let outcome = run(&x, None, |tape, x| block.apply(tape, x, NormMode::Train));
        let mut all = vec![bits(&outcome.y), bits(&outcome.dx)];
        let gradients = VARIABLES
            .map(|(ours, _)| bits(outcome.gradients.get(&parameters.all()[ours]).unwrap()));
        all.extend(gradients);
        all
    };
    let [one, two] = [1, 2].map(|threads| with_threads(threads, run_once));
    assert!(one == two);
}
