//! An encoder of one's own, trained by MoCo v2 and SynthPair: two convolutions as the trunk, a small decoder, drawn
//! images in place of photos, and the loop from views to optimiser steps.
//!
//! `cargo run --example own_encoder [STEPS]` takes a few seconds.

use std::error::Error;
use std::io::Write as _;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;
use fgvr_nn::layers::{
    After, BatchNorm, Conv2d, ConvConfig, Linear, global_mean, unflatten, upsample_nearest,
};
use fgvr_nn::optim::{Adam, AdamConfig, Sgd, SgdConfig};
use fgvr_nn::{Activation, Decoder, Encoder, FeatureMaps, NormMode, Parameters, Tape};
use fgvr_ssl::{
    Addon, Base, DecoderNetwork, MoCoConfig, MoCoV2, Network, StepInput, SynthPair,
    SynthPairConfig, step,
};

const SIDE: usize = 16;
const BATCH: usize = 16;
const IMAGES: u32 = 64;
const WIDTH: usize = 16;

/// 3x3 convolution of stride 2, batch norm, ReLU; twice. The feature is the mean over places.
struct TwoConvolutions {
    first: (Conv2d, BatchNorm),
    second: (Conv2d, BatchNorm),
}

impl TwoConvolutions {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let half = ConvConfig {
            stride: 2,
            padding: 1,
            ..ConvConfig::default()
        };
        let layer = |c_in, c_out, name: &str| -> Result<(Conv2d, BatchNorm)> {
            let vb = vb.pp(name);
            let conv = Conv2d::new(c_in, c_out, 3, &half, vb.pp("conv"))?;
            Ok((conv, BatchNorm::new(c_out, vb.pp("norm"))?))
        };
        Ok(Self {
            first: layer(3, 8, "first")?,
            second: layer(8, WIDTH, "second")?,
        })
    }
}

impl Encoder for TwoConvolutions {
    fn apply(&self, tape: &mut Tape, images: &Activation, norm: NormMode) -> Result<FeatureMaps> {
        let mut map = images.clone();
        for (conv, batch_norm) in [&self.first, &self.second] {
            let x = conv.apply(tape, &map)?;
            map = batch_norm.apply(tape, &x, norm, After::RELU)?;
        }
        let pooled = global_mean(tape, &map)?; // (N, 4, 4, C) -> (N, 1, 1, C)
        Ok(FeatureMaps { map, pooled })
    }

    fn width(&self) -> usize {
        WIDTH
    }
}

/// From pooled features to an image: a linear layer to a map of 8 x 8, nearest x2, a convolution to three channels.
struct OneConvolution {
    linear: Linear,
    image: Conv2d,
}

impl OneConvolution {
    fn new(vb: &VarBuilder<'_>) -> Result<Self> {
        let same = ConvConfig {
            padding: 1,
            bias: true,
            ..ConvConfig::default()
        };
        Ok(Self {
            linear: Linear::new(WIDTH, 4 * 8 * 8, true, vb.pp("linear"))?,
            image: Conv2d::new(4, 3, 3, &same, vb.pp("image"))?,
        })
    }
}

impl Decoder for OneConvolution {
    fn apply(&self, tape: &mut Tape, features: &Activation, _: NormMode) -> Result<Activation> {
        let x = self.linear.apply(tape, features)?;
        let x = unflatten(tape, &x, (4, 8, 8))?; // (N, 4*8*8) -> (N, 4, 8, 8)
        let x = upsample_nearest(tape, &x, 2)?;
        self.image.apply(tape, &x)
    }

    fn forward_train(&self, features: &Tensor, norm: NormMode) -> Result<(Var, Tape)> {
        let mut tape = Tape::recording();
        let features = tape.input(features, true)?;
        let images = self.apply(&mut tape, &features, norm)?;
        Ok((tape.output(&images)?, tape))
    }

    fn generate(&self, features: &Tensor, norm: NormMode) -> Result<Tensor> {
        let mut tape = Tape::inference();
        let features = tape.input(features, false)?;
        self.apply(&mut tape, &features, norm)?.to_tensor()
    }
}

/// Views (N, 3, S, S) of images: waves whose direction is the image's, and whose phase and colour are the view's.
fn views(images: &[u32], view: u32) -> Result<Tensor> {
    let mut values = Vec::with_capacity(images.len() * 3 * SIDE * SIDE);
    for image in images {
        let angle = *image as f32 * 0.7;
        let phase = ((image * 31 + view * 17) % 13) as f32;
        for channel in 0..3 {
            let colour = 1. + 0.2 * ((channel + view + image) % 3) as f32;
            for at in 0..SIDE * SIDE {
                let (y, x) = ((at / SIDE) as f32, (at % SIDE) as f32);
                values.push(colour * (angle.cos() * x + angle.sin() * y + phase).sin());
            }
        }
    }
    Tensor::from_vec(values, (images.len(), 3, SIDE, SIDE), &Device::Cpu)
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let steps: u64 = match std::env::args().nth(1) {
        Some(steps) => steps.parse()?,
        None => 60,
    };

    // MoCo v2 over two encoders, the second of which follows the first.
    let network = || -> Result<Network<TwoConvolutions>> {
        let parameters = Parameters::new(1);
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        Ok(Network {
            encoder: TwoConvolutions::new(&vb)?,
            parameters,
        })
    };
    let cfg = MoCoConfig {
        dim: 16,
        momentum: 0.98,
        queue: IMAGES as usize / 2,
        pair_queue: IMAGES as usize / 2,
        ..MoCoConfig::default()
    };
    let mut base = MoCoV2::new(network()?, network()?, Parameters::new(2), &cfg)?;

    // SynthPair over it, with a decoder that has an optimiser of its own.
    let parameters = Parameters::new(3);
    let decoder = OneConvolution::new(&parameters.builder(DType::F32, &Device::Cpu))?;
    let cfg = SynthPairConfig {
        bank_minimum: 32,
        ..SynthPairConfig::default()
    };
    let mut out = std::io::stdout();
    if let Some(why) = cfg.no_pair(BATCH, 1, steps) {
        writeln!(out, "{why}")?;
    }
    let decoder = DecoderNetwork {
        decoder: Box::new(decoder),
        parameters,
        adam: AdamConfig::default(),
        learning_rate: 1e-3,
    };
    let mut pairs = SynthPair::new(&cfg, WIDTH, Some(decoder))?;

    let mut trained = base.trainable();
    trained.extend(pairs.trainable());
    let mut sgd = Sgd::new(trained, &SgdConfig::default())?;
    let own = pairs.own_optimizer().ok_or("the pairs have a decoder")?;
    let (mut adam, decoder_rate) = (
        Adam::new(own.parameters.trainable(), &own.adam)?,
        own.learning_rate,
    );

    for number in 0..steps {
        let first = number as u32 * BATCH as u32;
        let images: Vec<u32> = (first..first + BATCH as u32).map(|i| i % IMAGES).collect();
        let (one, other) = (views(&images, 0)?, views(&images, 1 + number as u32)?);
        let input = StepInput::new([&one, &other], &images, number, steps).seed(7);
        let output = step(&mut base, &mut [&mut pairs], input)?;
        sgd.step(&output.gradients, 0.03)?;
        adam.step(&output.gradients, decoder_rate)?;
        base.after_step()?;
        pairs.after_step()?;
        if (number + 1) % 10 == 0 {
            write!(out, "step {}: loss {:.3}", number + 1, output.losses.total)?;
            for term in &output.losses.terms {
                write!(out, ", {} {:.3}", term.name, term.loss)?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}
