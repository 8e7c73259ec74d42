//! Decoders on the emulator of a GPU and on the CPU: the same images, gradients and running statistics.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device as Candle, Result, Tensor};
use fgvr_decoder::{ConvDecoder, DecoderConfig, DecoderInput};
use fgvr_nn::ParameterGradients;
use fgvr_nn::cuda::Real;
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_nn::{Decoder, Device, NormMode, Parameters};
use fgvr_testkit::{assert_close_each, normal};

/// The devices there are, and how far off images and statistics may be, and gradients, as shares of their
/// lengths. With bf16, values near zero fall on the other side of a ReLU, and their gradients with them.
fn devices() -> Vec<(Device, [f64; 2])> {
    let emulator = match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => Arc::new(emulator),
        Err(error) => {
            fgvr_testkit::skipped(error);
            return Vec::new();
        }
    };
    vec![
        (
            Device::new(emulator.clone(), Real::F32, "emulator"),
            [1e-5, 1e-4],
        ),
        (Device::new(emulator, Real::Bf16, "emulator"), [2e-2, 0.2]),
    ]
}

/// What a training step finds, by name: gradients, and the rest.
fn step(config: &DecoderConfig, device: Option<Device>) -> Result<[BTreeMap<String, Tensor>; 2]> {
    let parameters = Parameters::new(5);
    let vb = parameters.builder(DType::F32, &Candle::Cpu);
    let decoder = ConvDecoder::new(config, vb)?.on(device);
    for (i, (_, var)) in parameters.trainable().iter().enumerate() {
        // Norms start as the identity, which hides a mistake.
        if var.rank() == 1 {
            let noise = normal(100 + i as u64, var.dims());
            var.set(&(var.as_tensor() + (noise * 0.2)?)?)?;
        }
    }
    let features = match config.input {
        DecoderInput::Vector => normal(1, (4, config.features)),
        DecoderInput::Map => normal(1, (4, config.features, config.start, config.start)),
    };
    let (images, tape) = decoder.forward_train(&features, NormMode::Train)?;
    let weights = normal(9, images.dims());
    let leaves = (images.as_tensor() * weights)?.sum_all()?.backward()?;
    let mut gradients = ParameterGradients::default();
    let at_features = tape.backward(&leaves, &mut gradients)?.unwrap();
    assert_eq!(at_features.dims(), features.dims());
    let mut of_loss = BTreeMap::from([("gradient at the features".to_owned(), at_features)]);
    for (name, var) in parameters.trainable() {
        let gradient = gradients.get(&var);
        let gradient = gradient.unwrap_or_else(|| panic!("no gradient of {name}"));
        of_loss.insert(format!("gradient of {name}"), gradient.clone());
    }
    let generated = decoder.generate(&features, NormMode::Eval)?;
    let mut values = BTreeMap::from([
        ("images".to_owned(), images.into_inner()),
        ("images, generated".to_owned(), generated),
    ]);
    for (name, var) in parameters.buffers() {
        values.insert(name, var.as_tensor().copy()?);
    }
    Ok([of_loss, values])
}

fn agrees(what: &str, config: &DecoderConfig) {
    let [gradients, values] = step(config, None).unwrap();
    for (device, [of_values, of_gradients]) in devices() {
        let what = format!("{what} on {device:?}");
        let found = step(config, Some(device)).unwrap();
        assert_close_each(&what, &found[1], &values, of_values);
        for (name, gradient) in &found[0] {
            let squares = gradient.sqr().unwrap().sum_all().unwrap();
            let squares = squares.to_scalar::<f32>().unwrap();
            assert!(
                squares.is_finite() && squares > 0.,
                "{what}, {name}: {squares}"
            );
        }
        assert_close_each(&what, &found[0], &gradients, of_gradients);
    }
}

/// From 3 places over 6 to 12, and by a resize to 16 pixels.
fn small() -> DecoderConfig {
    DecoderConfig {
        features: 12,
        hidden: 16,
        start: 3,
        channels: vec![16, 8],
        size: 16,
        ..DecoderConfig::default()
    }
}

#[test]
fn a_decoder_of_vectors() {
    agrees("plain", &small());
    let at_its_own_size = DecoderConfig {
        size: 12,
        ..small()
    };
    agrees("without a resize", &at_its_own_size);
}

#[test]
fn a_decoder_of_maps() {
    let config = DecoderConfig {
        input: DecoderInput::Map,
        ..small()
    };
    agrees("of maps", &config);
}

#[test]
fn a_decoder_of_residual_blocks() {
    // Of as many channels as before, and of fewer.
    for input in [DecoderInput::Vector, DecoderInput::Map] {
        let config = DecoderConfig {
            input,
            residual: true,
            ..small()
        };
        agrees(&format!("residual, of a {input:?}"), &config);
    }
}
