//! The layers of convolutional networks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use fgvr_nn::layers::{
    self, ActivationFunction, After, BatchNorm, BatchNormConfig, Conv2d, ConvConfig, ConvInput,
    ConvNorm, Linear, PoolConfig, Shortcut,
};
use fgvr_nn::{Activation, NormMode, Tape};
use fgvr_testkit::normal;

use crate::support::{Forward, agrees, agrees_in_f32};

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

#[test]
fn depthwise_convolutions_and_zeros_that_differ_on_each_side() {
    // An even side takes one zero at its end, an odd one takes one on each.
    for (groups, kernel, stride) in [(8, 3, 2), (8, 5, 1), (8, 7, 1), (1, 3, 2)] {
        agrees("conv2d", &images(), |vb| {
            let config = ConvConfig {
                groups,
                stride,
                same: true,
                ..ConvConfig::default()
            };
            let layer = Conv2d::new(8, 8, kernel, &config, vb)?;
            Ok(Box::new(move |tape, x| layer.apply(tape, x)))
        });
    }
}

#[test]
fn an_inverted_block_by_batch_and_by_running_statistics() {
    // Maps of bf16 put values on the other side of either end of ReLU6, and their gradient with them; the
    // kernels by themselves are checked in bf16 where they are.
    for mode in [NormMode::Train, NormMode::Eval] {
        agrees_in_f32(&format!("inverted block, {mode:?}"), &images(), |vb| {
            let layer = |channels, kernel, groups, name: &str| {
                let config = ConvConfig {
                    groups,
                    same: true,
                    ..ConvConfig::default()
                };
                let (conv, norm) = (vb.pp(format!("{name}.conv")), vb.pp(format!("{name}.bn")));
                ConvNorm::new(
                    channels,
                    kernel,
                    &config,
                    conv,
                    &BatchNormConfig::default(),
                    norm,
                )
            };
            let expand = layer([8, 16], 1, 1, "a")?;
            let depthwise = layer([16, 16], 3, 16, "b")?;
            let project = layer([16, 8], 1, 1, "c")?;
            Ok(Box::new(move |tape, x| {
                let x = layers::relu6(tape, x)?;
                let y = expand.apply(tape, &x, mode)?;
                let y = depthwise.apply(tape, ConvInput::Relu6(y), mode)?;
                let y = project.apply(tape, ConvInput::Relu6(y), mode)?;
                y.add(tape, &x)
            }))
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
    for activation in [
        ActivationFunction::Identity,
        ActivationFunction::Relu,
        ActivationFunction::Relu6,
    ] {
        agrees("activate", &images(), |vb| {
            let layer = conv_norm([8, 16], 3, 2, vb)?;
            Ok(Box::new(move |tape, x| {
                layer
                    .apply(tape, x, NormMode::Train)?
                    .activate(tape, activation)
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
    let nothing = |forward: fn(&mut Tape, &Activation) -> Result<Activation>| -> Box<dyn Fn(VarBuilder) -> Result<Forward>> {
        Box::new(move |_| Ok(Box::new(forward)))
    };
    let pool = |tape: &mut Tape, x: &Activation| layers::max_pool(tape, x, &PoolConfig::default());
    agrees("max_pool", &images(), nothing(pool));
    let pool = |tape: &mut Tape, x: &Activation| layers::avg_pool(tape, x, &PoolConfig::default());
    agrees("avg_pool", &images(), nothing(pool));
    agrees("global_mean", &images(), nothing(layers::global_mean));
    agrees("relu", &images(), nothing(layers::relu));
    // Halves, which bf16 holds exactly, beyond both ends.
    let wide = (images() * 6.).unwrap().floor().unwrap();
    let halves = (wide + 0.5).unwrap();
    agrees("relu6", &halves, nothing(layers::relu6));
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
