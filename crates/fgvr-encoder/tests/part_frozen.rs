//! Networks whose lowest layers are frozen: the way back ends above them, and nothing else changes by a bit.
#![allow(clippy::unwrap_used)] // in helpers of tests

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use fgvr_encoder::{
    Backbone, EfficientNet, EfficientNetConfig, ResNet, ResNetConfig, Stem, Vit, VitConfig,
};
use fgvr_nn::{Encoder, FrozenVariables, NormMode, ParameterGradients, Parameters, PartlyFrozen};

const NETWORKS: [&str; 3] = ["resnet", "lite", "vit"];

fn network(name: &str) -> (Backbone, Parameters) {
    let parameters = Parameters::new(1);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let network = match name {
        "resnet" => {
            let config = ResNetConfig {
                width: 8,
                stem: Stem::ImageNet,
                ..ResNetConfig::resnet18()
            };
            Backbone::ResNet(ResNet::new(&config, vb).unwrap())
        }
        "lite" => {
            let config = EfficientNetConfig {
                width_multiplier: 0.2,
                ..EfficientNetConfig::default()
            };
            Backbone::EfficientNet(EfficientNet::new(&config, vb).unwrap())
        }
        _ => {
            let config = VitConfig {
                patch_size: 8,
                width: 24,
                depth: 3,
                heads: 3,
                ..VitConfig::small_patch16()
            };
            Backbone::Vit(Vit::new(&config, vb).unwrap())
        }
    };
    (network, parameters)
}

/// Whether a variable stands before the first block or stage.
fn in_stem(name: &str) -> bool {
    !(["blocks.", "layer", "norm.", "conv_head.", "bn2."].iter()).any(|part| name.starts_with(part))
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// What a pass gives, in bits.
#[derive(Debug, PartialEq)]
struct Found {
    features: [Vec<f32>; 2],
    running: BTreeMap<String, Vec<f32>>,
    at_images: Option<Vec<f32>>,
}

/// A pass and the way back, with the variables that `is_frozen` says frozen; gradients by name.
fn pass(
    name: &str,
    norm: NormMode,
    at_images: bool,
    is_frozen: impl Fn(&str) -> bool,
) -> (Found, BTreeMap<String, Vec<f32>>) {
    let (encoder, parameters) = network(name);
    let vars = parameters.trainable();
    let frozen = vars.iter().filter(|(name, _)| is_frozen(name));
    let frozen: FrozenVariables = frozen.map(|(_, var)| Var::as_tensor(var)).collect();
    let encoder = PartlyFrozen::new(encoder, frozen);
    let values = (0..4 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin());
    let images = Tensor::from_iter(values, &Device::Cpu).unwrap();
    let images = images.reshape((4, 3, 32, 32)).unwrap();
    let (features, tape) = match at_images {
        true => encoder.forward_train_to_images(&images, norm).unwrap(),
        false => encoder.forward_train(&images, norm).unwrap(),
    };
    let map = features.map.sqr().unwrap().sum_all().unwrap();
    let pooled = features.pooled.sin().unwrap().sum_all().unwrap();
    let leaves = (map + pooled).unwrap().backward().unwrap();
    let mut gradients = ParameterGradients::default();
    let at_images = tape.backward(&leaves, &mut gradients).unwrap();
    let buffers = parameters.buffers().into_iter();
    let gradients = vars
        .iter()
        .filter_map(|(name, var)| Some((name.clone(), flat(gradients.get(var)?))));
    let found = Found {
        features: [flat(&features.map), flat(&features.pooled)],
        running: buffers.map(|(name, var)| (name, flat(&var))).collect(),
        at_images: at_images.as_ref().map(flat),
    };
    (found, gradients.collect())
}

#[test]
fn the_lowest_frozen_layers_get_no_gradient_and_all_other_bits_stay() {
    for name in NETWORKS {
        for norm in [NormMode::Train, NormMode::Eval] {
            let (plain, all) = pass(name, norm, false, |_| false);
            let first = if name == "resnet" {
                "layer1."
            } else {
                "blocks.0."
            };
            let lowest = |own: &str| in_stem(own) || own.starts_with(first);
            for is_frozen in [&in_stem as &dyn Fn(&str) -> bool, &lowest] {
                let (found, gradients) = pass(name, norm, false, is_frozen);
                assert_eq!(found, plain, "{name} {norm:?}");
                let mut expected = all.clone();
                expected.retain(|own, _| !is_frozen(own));
                assert!(expected.len() < all.len(), "{name}");
                assert_eq!(gradients, expected, "{name} {norm:?}");
            }
        }
    }
}

#[test]
fn frozen_layers_above_a_trained_one_or_below_wanted_images_pass_gradients_on() {
    for name in NETWORKS {
        let (_, all) = pass(name, NormMode::Train, false, |_| false);
        // The stem is trained through frozen blocks.
        let (_, found) = pass(name, NormMode::Train, false, |own| !in_stem(own));
        assert_eq!(found, all, "{name}");
        // One variable of the stem is trained.
        let one = |own: &str| in_stem(own) && !own.ends_with("bias");
        let (_, found) = pass(name, NormMode::Train, false, one);
        assert_eq!(found, all, "{name}");
        // As the perceptual loss of a decoder asks for.
        let (plain, _) = pass(name, NormMode::NoUpdate, true, |_| false);
        let (found, _) = pass(name, NormMode::NoUpdate, true, |_| true);
        assert!(plain.at_images.as_ref().unwrap().iter().any(|g| *g != 0.));
        assert_eq!(found, plain, "{name}");
    }
}
