//! A convolution whose norm is applied by its reader, against the two layers one after the other.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use fgvr_nn::layers::{
    ActivationFunction, After, BatchNormConfig, ConvConfig, ConvInput, ConvNorm, Shortcut,
    global_mean,
};
use fgvr_nn::{Activation, NormMode, Parameters, Tape};
use fgvr_testkit::{assert_close, normal};

use crate::support::{Outcome, bits, run, with_threads};

const MODES: [NormMode; 5] = [
    NormMode::Train,
    NormMode::NoUpdate,
    NormMode::Split {
        groups: 2,
        update: true,
    },
    NormMode::Split {
        groups: 4,
        update: false,
    },
    NormMode::Eval,
];

/// A residual block, with and without a projection, then one more layer.
struct Block {
    parameters: Parameters,
    first: ConvNorm,
    last: ConvNorm,
    projection: Option<ConvNorm>,
    after: ConvNorm,
}

impl Block {
    fn new([c_in, c_out]: [usize; 2], stride: usize) -> Self {
        let parameters = Parameters::new(5);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let layer = |name: &str, channels, kernel: usize, stride| {
            let config = ConvConfig {
                stride,
                padding: kernel / 2,
                ..ConvConfig::default()
            };
            let (conv, norm) = (vb.pp(format!("{name}.conv")), vb.pp(format!("{name}.norm")));
            let norm_config = BatchNormConfig::default();
            ConvNorm::new(channels, kernel, &config, conv, &norm_config, norm).unwrap()
        };
        let block = Self {
            first: layer("first", [c_in, c_out], 3, stride),
            last: layer("last", [c_out, c_out], 3, 1),
            projection: (c_in != c_out).then(|| layer("projection", [c_in, c_out], 1, stride)),
            after: layer("after", [c_out, c_in], 1, 1),
            parameters,
        };
        // Weights, biases and running statistics that are not ones and zeros.
        for (i, (name, var)) in block.parameters.all().into_iter().enumerate() {
            if !name.contains("conv") {
                let away = if name.ends_with("running_var") {
                    2.
                } else {
                    0.7
                };
                let values = (normal(100 + i as u64, var.shape()) * 0.3).unwrap();
                var.set(&(values + away).unwrap()).unwrap();
            }
        }
        block
    }

    fn fused(&self, tape: &mut Tape, x: &Activation, mode: NormMode) -> Result<Activation> {
        let shortcut = match &self.projection {
            Some(projection) => Shortcut::Projection(projection.apply(tape, x, mode)?),
            None => Shortcut::Identity(x),
        };
        let y = self.first.apply(tape, x, mode)?;
        let y = self.last.apply(tape, ConvInput::Relu(y), mode)?;
        let y = y.add_relu(tape, shortcut)?;
        let z = self
            .after
            .apply(tape, &y, mode)?
            .activate(tape, ActivationFunction::Relu)?;
        sum(tape, z, &y, mode, &self.after)
    }

    fn plain(&self, tape: &mut Tape, x: &Activation, mode: NormMode) -> Result<Activation> {
        let layer = |tape: &mut Tape, layer: &ConvNorm, x: &Activation, after: After<'_>| {
            let y = layer.conv().apply(tape, x)?;
            layer.norm().apply(tape, &y, mode, after)
        };
        let shortcut = match &self.projection {
            Some(projection) => layer(tape, projection, x, After::NOTHING)?,
            None => x.clone(),
        };
        let y = layer(tape, &self.first, x, After::RELU)?;
        let y = layer(tape, &self.last, &y, After::add_relu(&shortcut))?;
        let z = layer(tape, &self.after, &y, After::RELU)?;
        sum(tape, z, &y, mode, &self.after)
    }

    fn run(&self, x: &Tensor, mode: NormMode, fused: bool) -> (Outcome, BTreeMap<String, Tensor>) {
        let before: BTreeMap<String, Tensor> = (self.parameters.buffers().into_iter())
            .map(|(name, var)| (name, var.as_tensor().copy().unwrap()))
            .collect();
        let outcome = run(x, None, |tape, x| match fused {
            true => self.fused(tape, x, mode),
            false => self.plain(tape, x, mode),
        });
        let mut tensors = BTreeMap::new();
        for (name, var) in self.parameters.buffers() {
            tensors.insert(name.clone(), var.as_tensor().copy().unwrap());
            var.set(&before[&name]).unwrap();
        }
        for (name, var) in self.parameters.trainable() {
            tensors.insert(format!("d {name}"), gradient(&outcome, &var));
        }
        (outcome, tensors)
    }
}

fn gradient(outcome: &Outcome, var: &Var) -> Tensor {
    outcome.gradients.get(var).unwrap().clone()
}

/// The mean of `z`, then a layer without a ReLU over `y`, which so has a second reader.
fn sum(
    tape: &mut Tape,
    z: Activation,
    y: &Activation,
    mode: NormMode,
    layer: &ConvNorm,
) -> Result<Activation> {
    let more = layer
        .apply(tape, y, mode)?
        .activate(tape, ActivationFunction::Identity)?;
    let both = fgvr_nn::layers::add(tape, &z, &more)?;
    let _ = global_mean(tape, &both)?;
    Ok(both)
}

/// The same values, gradients and running statistics, for an input of `shape`.
fn check(shape: (usize, usize, usize, usize), c_out: usize, stride: usize) {
    let x = normal(1, shape);
    let block = Block::new([shape.1, c_out], stride);
    for mode in MODES {
        let (fused, of_fused) = block.run(&x, mode, true);
        let (plain, of_plain) = block.run(&x, mode, false);
        let name = format!("{shape:?} to {c_out}, stride {stride}, {mode:?}");
        assert_close(&format!("{name}: y"), &fused.y, &plain.y, 1e-5);
        assert_close(&format!("{name}: dx"), &fused.dx, &plain.dx, 1e-4);
        assert_eq!(of_fused.len(), of_plain.len());
        for (key, value) in &of_fused {
            assert_close(&format!("{name}: {key}"), value, &of_plain[key], 1e-4);
        }
    }
}

#[test]
fn reading_through_the_norm_changes_nothing() {
    check((4, 16, 9, 7), 16, 1);
    check((8, 5, 6, 6), 12, 2);
    check((4, 32, 4, 5), 33, 1);
}

#[test]
fn a_batch_larger_than_the_cache_changes_nothing() {
    check((4, 8, 210, 203), 16, 1);
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let x = normal(3, (6, 17, 70, 71));
    let run_once = || {
        let block = Block::new([17, 34], 1);
        let (outcome, tensors) = block.run(&x, MODES[2], true);
        let mut all = vec![bits(&outcome.y), bits(&outcome.dx)];
        all.extend(tensors.values().map(bits));
        all
    };
    let [one, two, three] = [1, 2, 3].map(|threads| with_threads(threads, run_once));
    assert!(one == two && one == three);
}

#[test]
fn nan_is_passed_on_through_norm_and_relu() {
    let block = Block::new([4, 4], 1);
    let mut values: Vec<f32> = normal(6, (2, 4, 5, 5))
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    values[7] = f32::NAN;
    let x = Tensor::from_vec(values, (2, 4, 5, 5), &Device::Cpu).unwrap();
    let (outcome, _) = block.run(&x, NormMode::NoUpdate, true);
    let y: Vec<f32> = outcome.y.flatten_all().unwrap().to_vec1().unwrap();
    assert!(y.iter().all(|v| v.is_nan()));
}

#[test]
fn wrong_shapes_and_a_bias_are_errors() {
    let block = Block::new([4, 8], 2);
    let mut tape = Tape::recording();
    let x = tape.input(&normal(1, (2, 4, 6, 6)), false).unwrap();
    let y = block.first.apply(&mut tape, &x, NormMode::Train).unwrap();
    assert_eq!(y.shape(), [2, 3, 3, 8]);
    let error = y.add_relu(&mut tape, Shortcut::Identity(&x)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("shortcut is [2, 6, 6, 4], expected [2, 3, 3, 8]")
    );
    let error = block
        .last
        .apply(&mut tape, &x, NormMode::Train)
        .unwrap_err();
    assert!(error.to_string().contains("expected 8 channels, found 4"));

    let vb = Parameters::new(1);
    let vb = vb.builder(DType::F32, &Device::Cpu);
    let config = ConvConfig {
        bias: true,
        ..ConvConfig::default()
    };
    let norm = BatchNormConfig::default();
    let error = ConvNorm::new([1, 1], 1, &config, vb.pp("c"), &norm, vb.pp("n")).unwrap_err();
    assert!(error.to_string().contains("without bias"));
}
