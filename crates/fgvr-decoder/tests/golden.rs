//! A small decoder against PyTorch: `tests/golden/decoder.py` says what is stored.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use fgvr_decoder::{ConvDecoder, DecoderConfig, DecoderInput, reconstruction_loss};
use fgvr_nn::ParameterGradients;
use fgvr_nn::{Decoder, NormMode, Parameters};
use fgvr_testkit::{assert_close, golden};

fn case(case: &str, channels: Vec<usize>, size: usize) {
    with(case, channels, size, DecoderInput::Vector, false);
}

fn with(case: &str, channels: Vec<usize>, size: usize, input: DecoderInput, residual: bool) {
    let golden = golden("decoder.safetensors");
    let expected = |name: &str| golden.get(&format!("{case}.{name}"));
    let config = DecoderConfig {
        features: 6,
        input,
        residual,
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
    let mut gradients = ParameterGradients::default();
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
fn residual_blocks_with_and_without_a_projection_are_pytorchs() {
    with("residual", vec![5, 3], 12, DecoderInput::Vector, true);
}

#[test]
fn a_decoder_of_maps_is_pytorchs() {
    with("map", vec![4], 6, DecoderInput::Map, false);
    with("residual_map", vec![4], 6, DecoderInput::Map, true);
}

#[test]
fn the_gradient_at_a_map_is_that_of_finite_differences() {
    let config = DecoderConfig {
        input: DecoderInput::Map,
        residual: true,
        ..DecoderConfig::for_size(4, 8, 4, 6)
    };
    let vb = Parameters::new(3).builder(DType::F32, &Device::Cpu);
    let decoder = ConvDecoder::new(&config, vb).unwrap();
    let map = fgvr_testkit::uniform(7, (2, 4, 2, 2), 0.2, 1.);
    let target = fgvr_testkit::uniform(8, (2, 3, 8, 8), -1., 1.);
    let value = |map: &Tensor| {
        let images = decoder.generate(map, NormMode::Train).unwrap();
        let loss = reconstruction_loss(&images, &target).unwrap();
        f64::from(loss.to_scalar::<f32>().unwrap())
    };
    let (images, tape) = decoder.forward_train(&map, NormMode::Train).unwrap();
    let loss = reconstruction_loss(&images, &target).unwrap();
    let gradient = tape
        .backward(
            &loss.backward().unwrap(),
            &mut ParameterGradients::default(),
        )
        .unwrap()
        .unwrap();
    assert_eq!(gradient.dims(), map.dims());
    // Along one direction of many entries, so that the difference stands above the rounding of f32.
    let direction = fgvr_testkit::uniform(9, (2, 4, 2, 2), -1., 1.);
    let along = (&gradient * &direction).unwrap().sum_all().unwrap();
    let along = f64::from(along.to_scalar::<f32>().unwrap());
    let at = |by: f64| value(&(&map + (&direction * by).unwrap()).unwrap());
    let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
    assert!(
        (along - numeric).abs() < 0.05 * along.abs().max(1e-3),
        "{along} {numeric}"
    );
}

#[test]
fn a_map_of_another_size_is_an_error() {
    let config = DecoderConfig {
        input: DecoderInput::Map,
        ..DecoderConfig::for_size(8, 32, 16, 8)
    };
    let vb = Parameters::new(0).builder(DType::F32, &Device::Cpu);
    let decoder = ConvDecoder::new(&config, vb).unwrap();
    for dims in [vec![2, 8], vec![2, 8, 3, 2]] {
        let features = Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let error = decoder.generate(&features, NormMode::Eval).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("expected (N, 8, 2, 2)"), "{error}");
    }
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
