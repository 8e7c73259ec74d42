//! A small decoder against PyTorch: `tests/golden/decoder.py` says what is stored.

#![allow(clippy::unwrap_used)]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device};
use fgvr_decoder::{ConvDecoder, DecoderConfig, reconstruction_loss};
use fgvr_nn::{Decoder, NormMode, Parameters};
use fgvr_testkit::{assert_close, golden};

fn case(case: &str, channels: Vec<usize>, size: usize) {
    let golden = golden("decoder.safetensors");
    let expected = |name: &str| golden.get(&format!("{case}.{name}"));
    let config = DecoderConfig {
        features: 6,
        hidden: 5,
        start: 3,
        channels,
        size,
    };
    let parameters = Parameters::new(0);
    let decoder = ConvDecoder::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    for (name, var) in parameters.all() {
        var.set(&expected(&format!("init.{name}"))).unwrap();
    }
    let stored = golden.tensors().keys();
    let count = stored
        .filter(|name| name.starts_with(&format!("{case}.init.")))
        .count();
    assert_eq!(
        count,
        parameters.all().len(),
        "{case}: parameters that PyTorch has and we do not"
    );

    let pooled = expected("pooled");
    let images = decoder.generate(&pooled, NormMode::Eval).unwrap();
    assert_close("eval images", &images, &expected("eval.images"), 1e-5);

    let (images, tape) = decoder.forward_train(&pooled, NormMode::Train).unwrap();
    assert_close("train images", &images, &expected("train.images"), 1e-5);
    for (name, var) in parameters.buffers() {
        assert_close(&name, &var, &expected(&format!("running.{name}")), 1e-5);
    }
    let loss = reconstruction_loss(&images, &expected("target")).unwrap();
    assert_close("loss", &loss, &expected("loss"), 1e-5);
    let mut gradients = GradStore::default();
    let at_pooled = tape
        .backward(&loss.backward().unwrap(), &mut gradients)
        .unwrap()
        .unwrap();
    assert_close(
        "pooled's gradient",
        &at_pooled,
        &expected("grad.pooled"),
        2e-5,
    );
    for (name, var) in parameters.trainable() {
        let gradient = gradients.get(&var).unwrap();
        assert_close(&name, gradient, &expected(&format!("grad.{name}")), 2e-5);
    }
}

#[test]
fn blocks_that_end_at_the_size_are_pytorchs() {
    case("exact", vec![4, 3], 12);
}

#[test]
fn a_bilinear_end_is_pytorchs() {
    case("resized", vec![4], 13);
}

#[test]
fn features_of_another_width_are_an_error() {
    let config = DecoderConfig::for_size(8, 16, 16, 8);
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let decoder = ConvDecoder::new(&config, vb).unwrap();
    let pooled = candle_core::Tensor::zeros((2, 9), DType::F32, &Device::Cpu).unwrap();
    let error = decoder
        .generate(&pooled, NormMode::Eval)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("decoder: pooled is [2, 9], expected (N, 8)"),
        "{error}"
    );
}

#[test]
fn the_first_images_have_about_unit_variance() {
    let config = DecoderConfig::for_size(128, 64, 16, 64);
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let decoder = ConvDecoder::new(&config, vb).unwrap();
    let pooled = fgvr_testkit::uniform(1, (8, 128), 0., 1.);
    let images = decoder.generate(&pooled, NormMode::Train).unwrap();
    let square = images
        .sqr()
        .unwrap()
        .mean_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    assert!((0.2..2.).contains(&square), "{square}");
}
