//! A frozen network says what the network it was made from says in evaluation.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use fgvr_encoder::{FrozenBackbone, ResNet, ResNetConfig, Stem};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};
use fgvr_testkit::{assert_close, normal, uniform_values};

/// A network whose norms have statistics, weights and biases that are not the initial ones.
struct Case {
    model: ResNet,
    parameters: Parameters,
}

impl Case {
    fn new(depth: usize, width: usize, stem: Stem) -> Self {
        Self::of(&ResNetConfig {
            depth,
            width,
            stem,
            ..ResNetConfig::default()
        })
    }

    fn of(config: &ResNetConfig) -> Self {
        let parameters = Parameters::new(3);
        let model = ResNet::new(config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
        let vectors = parameters.trainable().into_iter();
        for (seed, (name, var)) in vectors.filter(|(_, var)| var.rank() == 1).enumerate() {
            let around = if name.ends_with("weight") { 1. } else { 0. };
            let values = uniform_values(seed as u64, var.elem_count(), around - 0.4, around + 0.4);
            var.set(&Tensor::new(values, &Device::Cpu).unwrap())
                .unwrap();
        }
        let case = Self { model, parameters };
        case.train(0);
        case
    }

    /// A few passes that move the running statistics.
    fn train(&self, seed: u64) {
        for pass in 0..3 {
            let images = normal(100 + seed + pass, (4, 3, 40, 40));
            let images = images.affine(1.5, 0.7).unwrap();
            self.model.features(&images, NormMode::Train).unwrap();
        }
    }

    fn eval(&self, images: &Tensor) -> Features {
        self.model.features(images, NormMode::Eval).unwrap()
    }

    fn expect(&self, frozen: &FrozenBackbone, images: &Tensor) {
        let (expected, found) = (self.eval(images), frozen.features(images).unwrap());
        let what = format!("{:?} of {:?}", self.model.config(), images.dims());
        assert_eq!(found.map.dims(), expected.map.dims());
        assert_close(&what, &found.map, &expected.map, 1e-5);
        assert_close(&what, &found.pooled, &expected.pooled, 1e-5);
        assert_eq!(
            values(&frozen.embed(images).unwrap()),
            values(&found.pooled)
        );
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn frozen_features_are_those_of_evaluation() {
    for (depth, width) in [(10, 8), (14, 4), (18, 16), (50, 8)] {
        for stem in [Stem::ImageNet, Stem::Small] {
            let case = Case::new(depth, width, stem);
            let frozen = case.model.freeze().unwrap();
            assert_eq!(frozen.width(), case.model.width());
            case.expect(&frozen, &normal(1, (3, 3, 33, 47)));
        }
    }
}

#[test]
fn frozen_features_of_a_wide_network_are_those_of_evaluation() {
    let case = Case::of(&ResNetConfig {
        width: 8,
        base_width: 128,
        ..ResNetConfig::resnet50()
    });
    case.expect(&case.model.freeze().unwrap(), &normal(1, (2, 3, 64, 48)));
}

#[test]
fn one_frozen_network_takes_batches_and_images_of_many_sizes() {
    let case = Case::new(18, 8, Stem::Small);
    let frozen = case.model.freeze().unwrap();
    // Some sizes come back after their weights were dropped. 9 images of few places and 2 of them go
    // through different kernels.
    for (n, h, w) in [
        (9, 32, 32),
        (1, 33, 47),
        (2, 32, 32),
        (9, 32, 32),
        (3, 64, 48),
        (1, 1, 1),
        (12, 32, 32),
        (2, 33, 47),
    ] {
        case.expect(&frozen, &normal(2, (n, 3, h, w)));
    }
}

#[test]
fn a_batch_of_several_parts_is_that_of_evaluation() {
    // A stem map of 64 x 64 x 16 floats an image: 23 images a part, with the images and what the
    // pooling leaves.
    let case = Case::new(10, 16, Stem::ImageNet);
    let frozen = case.model.freeze().unwrap();
    case.expect(&frozen, &normal(4, (43, 3, 128, 128)));
}

#[test]
fn images_need_not_be_contiguous() {
    let case = Case::new(10, 8, Stem::ImageNet);
    let images = normal(5, (3, 2, 48, 40)).transpose(0, 1).unwrap();
    case.expect(&case.model.freeze().unwrap(), &images);
}

#[test]
fn training_does_not_change_what_was_frozen() {
    let case = Case::new(10, 8, Stem::Small);
    let images = normal(6, (2, 3, 48, 48));
    let frozen = case.model.freeze().unwrap();
    let before = case.eval(&images).pooled;
    let weight = &case.parameters.all()["layer1.0.conv1.weight"];
    weight.set(&weight.affine(1.5, 0.).unwrap()).unwrap();
    case.train(50);
    // The first batch comes only now.
    assert_close("frozen", &frozen.embed(&images).unwrap(), &before, 1e-5);
    let frozen = case.model.freeze().unwrap();
    case.expect(&frozen, &images);
    assert_ne!(values(&frozen.embed(&images).unwrap()), values(&before));
}

#[test]
fn nan_pixels_stay_nan() {
    let case = Case::new(18, 8, Stem::ImageNet);
    let images = normal(7, (1, 3, 32, 32)).affine(1., f64::NAN).unwrap();
    let pooled = case.model.freeze().unwrap().embed(&images).unwrap();
    assert!(values(&pooled).iter().all(|v| v.is_nan()));
}

#[test]
fn wrong_images_are_refused_with_their_shape() {
    let frozen = Case::new(10, 4, Stem::Small).model.freeze().unwrap();
    for dims in [
        &[2, 4, 32, 32][..],
        &[0, 3, 32, 32],
        &[2, 3, 0, 32],
        &[3, 32, 32],
    ] {
        let images = Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let error = frozen.embed(&images).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{dims:?}, expected (N, 3, H, W)")),
            "{error}"
        );
    }
    let images = Tensor::zeros((1, 3, 32, 32), DType::F64, &Device::Cpu).unwrap();
    assert!(frozen.features(&images).is_err());
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for (depth, stem) in [(18, Stem::ImageNet), (50, Stem::Small)] {
        let frozen = Case::new(depth, 16, stem).model.freeze().unwrap();
        let images = normal(8, (9, 3, 96, 80));
        let features: Vec<_> = [1, 2, 3]
            .into_iter()
            .map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let pool = pool.build().unwrap();
                values(&pool.install(|| frozen.features(&images)).unwrap().map)
            })
            .collect();
        assert!(features.iter().all(|map| *map == features[0]));
    }
}

#[test]
fn batches_may_be_embedded_by_many_threads_at_once() {
    use rayon::prelude::*;

    let case = Case::new(10, 8, Stem::Small);
    let batches: Vec<Tensor> = (0..12)
        .map(|i| normal(i, (2, 3, 32 + 16 * (i as usize % 3), 32)))
        .collect();
    let frozen = case.model.freeze().unwrap();
    let found: Vec<Tensor> = batches
        .par_iter()
        .map(|images| frozen.embed(images).unwrap())
        .collect();
    for (images, found) in batches.iter().zip(found) {
        assert_eq!(values(&found), values(&frozen.embed(images).unwrap()));
    }
}
