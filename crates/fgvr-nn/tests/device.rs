//! Every layer that has a form for a GPU, on the emulator and on the CPU: the same values, gradients and
//! running statistics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;
use fgvr_cuda::Real;
use fgvr_cuda::emulator::Emulator;
use fgvr_nn::layers::{
    self, After, BatchNorm, BatchNormConfig, Conv2d, ConvConfig, ConvInput, ConvNorm, Linear,
    PoolConfig, Shortcut,
};
use fgvr_nn::{Device, Map, NormMode, Parameters, Tape};
use fgvr_testkit::normal;

type Forward = Box<dyn Fn(&mut Tape, &Map) -> Result<Map>>;

/// The devices there are: maps of f32 and of bf16, and the difference allowed, see [`difference`]. With bf16
/// a value near zero may fall on the other side of a ReLU, and its whole gradient with it.
fn devices() -> Vec<(Device, f64)> {
    let emulator = match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => Arc::new(emulator),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            return Vec::new();
        }
    };
    vec![
        (Device::new(emulator.clone(), Real::F32, "emulator"), 2e-5),
        (Device::new(emulator, Real::Bf16, "emulator"), 1e-1),
    ]
}

/// What a pass says: the output, the gradient at the input, the gradients of the variables, the buffers.
fn pass(
    build: &dyn Fn(VarBuilder) -> Result<Forward>,
    input: &Tensor,
    device: Option<&Device>,
) -> Result<BTreeMap<String, Tensor>> {
    let parameters = Parameters::new(3);
    let forward = build(parameters.builder(DType::F32, &candle_core::Device::Cpu))?;
    for (i, (name, var)) in parameters.trainable().iter().enumerate() {
        // Norms start at weight 1 and bias 0, which hide a mistake.
        if name.contains("bn") {
            var.set(&(var.as_tensor() + (normal(50 + i as u64, var.dims()) * 0.3)?)?)?;
        }
    }
    let mut tape = Tape::recording().on(device);
    let x = tape.input(input, true)?;
    let y = forward(&mut tape, &x)?;
    let y = tape.output(&y)?;
    // An uneven weighting, so that every output counts.
    let weights = normal(9, y.dims());
    let leaves = (y.as_tensor() * weights)?.sum_all()?.backward()?;
    let mut gradients = GradStore::default();
    let dx = tape.backward(&leaves, &mut gradients)?;
    let mut found = BTreeMap::from([("output".to_owned(), y.as_tensor().clone())]);
    found.extend(dx.map(|dx| ("gradient at the input".to_owned(), dx)));
    for (name, var) in parameters.trainable() {
        let gradient = gradients.get(&var).expect("every variable has a gradient");
        found.insert(format!("gradient of {name}"), gradient.clone());
    }
    for (name, var) in parameters.buffers() {
        found.insert(name, var.as_tensor().clone());
    }
    Ok(found)
}

/// The length of a - b as a share of that of a.
fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    let length = |t: &Tensor| -> Result<f64> {
        let squares = t.to_dtype(DType::F64)?.sqr()?.sum_all()?;
        Ok(squares.to_scalar::<f64>()?.sqrt())
    };
    Ok(length(&(a - b)?)? / length(a)?.max(1e-6))
}

fn agrees(what: &str, input: &Tensor, build: impl Fn(VarBuilder) -> Result<Forward>) {
    let compare = || -> Result<()> {
        let expected = pass(&build, input, None)?;
        for (device, allowed) in devices() {
            let found = pass(&build, input, Some(&device))?;
            assert_eq!(
                expected.keys().collect::<Vec<_>>(),
                found.keys().collect::<Vec<_>>()
            );
            for (name, expected) in &expected {
                let off = difference(expected, &found[name])?;
                assert!(
                    off <= allowed,
                    "{what}, {device:?}, {name}: off by {off:.1e}, allowed {allowed:.0e}"
                );
            }
        }
        Ok(())
    };
    if let Err(error) = compare() {
        panic!("{what}: {error}");
    }
}

fn images() -> Tensor {
    normal(1, (4, 8, 6, 5))
}

#[test]
fn a_convolution() {
    for (groups, stride, bias) in [(1, 1, true), (2, 2, false)] {
        agrees("conv2d", &images(), |vb| {
            let config = ConvConfig {
                groups,
                stride,
                bias,
                padding: 1,
                ..ConvConfig::default()
            };
            let layer = Conv2d::new(8, 16, 3, &config, vb)?;
            Ok(Box::new(move |tape, x| layer.apply(tape, x)))
        });
    }
}

fn conv_norm(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    vb: VarBuilder,
) -> Result<ConvNorm> {
    let config = ConvConfig {
        stride,
        padding: kernel / 2,
        ..ConvConfig::default()
    };
    ConvNorm::new(
        channels,
        kernel,
        &config,
        vb.pp("conv"),
        &BatchNormConfig::default(),
        vb.pp("bn"),
    )
}

#[test]
fn a_residual_block_in_every_mode_of_its_norm() {
    let split = NormMode::Split {
        groups: 2,
        update: true,
    };
    for mode in [NormMode::Train, NormMode::NoUpdate, NormMode::Eval, split] {
        for projected in [false, true] {
            agrees(
                &format!("block, {mode:?}, projected: {projected}"),
                &images(),
                |vb| {
                    let out = if projected { 16 } else { 8 };
                    let first = conv_norm([8, 8], 1, 1, vb.pp("a"))?;
                    let last = conv_norm([8, out], 3, 1, vb.pp("b"))?;
                    let short = projected
                        .then(|| conv_norm([8, out], 1, 1, vb.pp("short")))
                        .transpose()?;
                    Ok(Box::new(move |tape, x| {
                        // What comes before gives the block's input a gradient from both sides.
                        let x = layers::relu(tape, x)?;
                        let shortcut = match &short {
                            Some(layer) => Shortcut::Projection(layer.apply(tape, &x, mode)?),
                            None => Shortcut::Identity(&x),
                        };
                        let inner = ConvInput::Relu(first.apply(tape, &x, mode)?);
                        last.apply(tape, inner, mode)?.add_relu(tape, shortcut)
                    }))
                },
            );
        }
    }
}

#[test]
fn a_convolution_whose_norm_is_applied_alone() {
    for relu in [false, true] {
        agrees("activate", &images(), |vb| {
            let layer = conv_norm([8, 16], 3, 2, vb)?;
            Ok(Box::new(move |tape, x| {
                layer.apply(tape, x, NormMode::Train)?.activate(tape, relu)
            }))
        });
    }
}

#[test]
fn a_norm_without_a_convolution() {
    for residual in [false, true] {
        agrees("batch norm", &images(), |vb| {
            let norm = BatchNorm::new(8, vb.pp("bn"))?;
            Ok(Box::new(move |tape, x| match residual {
                true => norm.apply(tape, x, NormMode::Train, After::add_relu(x)),
                false => {
                    let after = After {
                        relu: true,
                        residual: None,
                    };
                    norm.apply(tape, x, NormMode::Train, after)
                }
            }))
        });
    }
}

#[test]
fn a_linear_layer_at_each_place() {
    agrees("linear", &images(), |vb| {
        let layer = Linear::new(8, 24, true, vb)?;
        Ok(Box::new(move |tape, x| layer.apply(tape, x)))
    });
}

#[test]
fn layers_without_variables() {
    let nothing = |forward: fn(&mut Tape, &Map) -> Result<Map>| -> Box<dyn Fn(VarBuilder) -> Result<Forward>> {
        Box::new(move |_| Ok(Box::new(forward)))
    };
    let pool = |tape: &mut Tape, x: &Map| layers::max_pool(tape, x, &PoolConfig::default());
    agrees("max_pool", &images(), nothing(pool));
    let pool = |tape: &mut Tape, x: &Map| layers::avg_pool(tape, x, &PoolConfig::default());
    agrees("avg_pool", &images(), nothing(pool));
    agrees("global_mean", &images(), nothing(layers::global_mean));
    agrees("relu", &images(), nothing(layers::relu));
    agrees(
        "add",
        &images(),
        nothing(|tape, x| {
            let y = layers::relu(tape, x)?;
            layers::add(tape, x, &y)
        }),
    );
    agrees(
        "nearest",
        &images(),
        nothing(|tape, x| layers::upsample_nearest(tape, x, 3)),
    );
    agrees(
        "bilinear",
        &images(),
        nothing(|tape, x| layers::resize_bilinear(tape, x, (9, 4))),
    );
    let vectors = normal(2, (3, 40));
    agrees(
        "unflatten",
        &vectors,
        nothing(|tape, x| layers::unflatten(tape, x, (8, 5, 1))),
    );
}

#[test]
fn a_layer_without_a_form_for_a_gpu_refuses_its_map() {
    for (device, _) in devices() {
        let mut tape = Tape::inference().on(Some(&device));
        let x = tape.input(&images(), false).unwrap();
        let norm = layers::L2Normalise::default();
        let error = norm.apply(&mut tape, &x).unwrap_err().to_string();
        assert!(error.contains("on the CPU alone"), "{error}");
    }
}
