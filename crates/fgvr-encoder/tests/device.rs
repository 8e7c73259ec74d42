//! Whole networks on the emulator of a GPU and on the CPU: the same features, gradients and running
//! statistics.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device as Candle, Result, Tensor};
use fgvr_encoder::{
    Architecture, Backbone, EfficientNet, EfficientNetConfig, EncoderConfig, FrozenBackbone,
    Pooling, Stem, Vit, VitConfig,
};
use fgvr_nn::ParameterGradients;
use fgvr_nn::cuda::Real;
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_nn::{Device, Encoder, Features, NormMode, Parameters};
use fgvr_testkit::{assert_close_each, normal};

/// The devices there are: maps of f32 and of bf16.
fn devices() -> Vec<(Device, Real)> {
    match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => {
            let emulator = Arc::new(emulator);
            let of = |real: &Real| (Device::new(emulator.clone(), *real, "emulator"), *real);
            Real::ALL.iter().map(of).collect()
        }
        Err(error) => {
            fgvr_testkit::skipped(error);
            Vec::new()
        }
    }
}

/// What moves the variables from where they start, so that norms are not the identity, biases are there and
/// no layer scale hides its branch.
fn move_away(parameters: &Parameters) -> Result<()> {
    for (i, (name, var)) in parameters.trainable().iter().enumerate() {
        let noise = normal(100 + i as u64, var.dims());
        let moved = match var.rank() {
            1 => (var.as_tensor() + (noise * 0.2)?)?,
            _ if name.ends_with("_token") => (noise * 0.5)?,
            _ => continue,
        };
        var.set(&moved)?;
    }
    Ok(())
}

/// What a training step finds, by name.
fn step<E: Encoder>(
    build: &dyn Fn(&Parameters, Option<Device>) -> Result<E>,
    images: &Tensor,
    device: Option<Device>,
) -> Result<BTreeMap<String, Tensor>> {
    let parameters = Parameters::new(5);
    let encoder = build(&parameters, device)?;
    move_away(&parameters)?;
    let (features, tape) = encoder.forward_train_to_images(images, NormMode::Train)?;
    let Features { map, pooled } = features;
    // Uneven weights, so that every output counts.
    let of_map = (&map * normal(8, map.dims()))?.sum_all()?;
    let of_pooled = (&pooled * normal(9, pooled.dims()))?.sum_all()?;
    let leaves = (of_map + of_pooled)?.backward()?;
    let mut gradients = ParameterGradients::default();
    let at_images = tape.backward(&leaves, &mut gradients)?;
    let mut found = BTreeMap::from([("map".to_owned(), map), ("features".to_owned(), pooled)]);
    found.insert("gradient at the images".to_owned(), at_images.unwrap());
    for (name, var) in parameters.trainable() {
        // What is added to all places of a channel goes in an EfficientNet's next norm: rounding is all that is left.
        if name.starts_with("blocks.") && name.ends_with(".bn3.bias")
            || name == "blocks.0.0.bn2.bias"
        {
            continue;
        }
        let gradient = gradients.get(&var);
        let gradient = gradient.unwrap_or_else(|| panic!("no gradient of {name}"));
        found.insert(format!("gradient of {name}"), gradient.clone());
    }
    for (name, var) in parameters.buffers() {
        found.insert(name, var.as_tensor().copy()?);
    }
    // The statistics of the batch are in what runs by now.
    let inferred = encoder.features(images, NormMode::Eval)?;
    found.insert("map, inferred".to_owned(), inferred.map);
    found.insert("features, inferred".to_owned(), inferred.pooled);
    Ok(found)
}

/// How far off tensors may be, as shares of their lengths.
#[derive(Clone, Copy)]
struct Allowed {
    /// Outputs and statistics.
    values: f64,
    /// Gradients; what is `None` may be anything finite but zero.
    gradients: Option<f64>,
}

/// With maps of f32, and of bf16.
fn agrees<E: Encoder>(
    what: &str,
    images: &Tensor,
    [f32s, bf16s]: [Allowed; 2],
    build: impl Fn(&Parameters, Option<Device>) -> Result<E>,
) {
    let split = |found: BTreeMap<String, Tensor>| {
        let is_gradient = |(name, _): &(String, Tensor)| name.starts_with("gradient");
        found
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(is_gradient)
    };
    let (gradients, values) = split(step(&build, images, None).unwrap());
    for (device, real) in devices() {
        let found = split(step(&build, images, Some(device)).unwrap());
        let what = format!("{what} with maps of {}", real.name());
        let allowed = match real {
            Real::F32 => f32s,
            Real::Bf16 => bf16s,
        };
        assert_close_each(&what, &found.1, &values, allowed.values);
        for (name, gradient) in &found.0 {
            let squares = gradient.sqr().unwrap().sum_all().unwrap();
            let squares = squares.to_scalar::<f32>().unwrap();
            assert!(
                squares.is_finite() && squares > 0.,
                "{what}, {name}: {squares}"
            );
        }
        if let Some(allowed) = allowed.gradients {
            assert_close_each(&what, &found.0, &gradients, allowed);
        }
    }
}

fn residual_network_agrees(
    architecture: Architecture,
    (stem, side): (Stem, usize),
    allowed: [Allowed; 2],
) {
    // Branches start small, or batches of four would make deep networks chaotic: without this, gradients of
    // the fifty layers turn by more than their length when images change by a thousandth.
    let config = EncoderConfig {
        width: 8,
        stem,
        zero_init_residual: true,
        ..EncoderConfig::from(architecture)
    };
    let images = normal(1, (4, 3, side, side));
    agrees(
        architecture.name(),
        &images,
        allowed,
        |parameters, device| {
            let vb = parameters.builder(DType::F32, &Candle::Cpu);
            Ok(Backbone::new(&config, vb)?.on(device))
        },
    );
}

/// With bf16, values near zero fall on the other side of a ReLU, and their gradients with them: on the CPU,
/// too, these gradients change by 0.1 to 0.15 of their length when images change by a thousandth.
const RESIDUAL: [Allowed; 2] = [
    Allowed {
        values: 1e-5,
        gradients: Some(1e-4),
    },
    Allowed {
        values: 4e-2,
        gradients: Some(0.45),
    },
];

#[test]
fn a_residual_network_of_basic_blocks() {
    residual_network_agrees(Architecture::ResNet10, (Stem::ImageNet, 48), RESIDUAL);
}

#[test]
fn a_residual_network_of_bottlenecks() {
    residual_network_agrees(Architecture::ResNet14, (Stem::Small, 32), RESIDUAL);
}

#[test]
fn a_residual_network_of_fifty_layers() {
    let [f32s, bf16s] = RESIDUAL;
    let allowed = [
        // One of its values is near enough to zero for f32's rounding.
        Allowed {
            gradients: Some(3e-2),
            ..f32s
        },
        Allowed {
            gradients: None,
            ..bf16s
        },
    ];
    residual_network_agrees(Architecture::ResNet50, (Stem::Small, 48), allowed);
}

/// Narrow and short, with either padding.
fn efficientnets() -> [EfficientNetConfig; 2] {
    let same = EfficientNetConfig {
        width_multiplier: 0.2,
        depth_multiplier: 0.5,
        ..EfficientNetConfig::default()
    };
    [same.clone(), same.symmetric()]
}

#[test]
fn efficientnets_with_either_padding() {
    for config in efficientnets() {
        // Of so few values a norm's statistics are taken that bf16 turns gradients as it likes.
        let allowed = [
            Allowed {
                values: 1e-4,
                gradients: Some(0.1),
            },
            Allowed {
                values: 0.4,
                gradients: None,
            },
        ];
        let images = normal(1, (4, 3, 65, 48));
        agrees("efficientnet", &images, allowed, |parameters, device| {
            let vb = parameters.builder(DType::F32, &Candle::Cpu);
            Ok(EfficientNet::new(&config, vb)?.on(device))
        });
    }
}

#[test]
fn frozen_efficientnets() {
    for network in efficientnets() {
        let build = |parameters: &Parameters| {
            let vb = parameters.builder(DType::F32, &Candle::Cpu);
            Ok(Backbone::EfficientNet(EfficientNet::new(&network, vb)?))
        };
        let config = EncoderConfig::from(Architecture::TfEfficientNetLite0);
        frozen_agrees(&config, &[[2, 48, 40], [1, 33, 47]], build, [1e-5, 5e-2]);
    }
}

const VIT: [Allowed; 2] = [
    Allowed {
        values: 1e-5,
        gradients: Some(1e-4),
    },
    Allowed {
        values: 2e-2,
        gradients: Some(5e-2),
    },
];

fn small_vit() -> VitConfig {
    VitConfig {
        patch_size: 8,
        image_size: 24,
        width: 16,
        depth: 2,
        heads: 2,
        ..VitConfig::small_patch16()
    }
}

fn with_registers() -> VitConfig {
    VitConfig {
        layer_scale: Some(0.5),
        ..small_vit().with_registers(2)
    }
}

#[test]
fn a_vision_transformer_on_its_own_grid_and_on_another() {
    for (what, config, sides) in [
        ("vit", small_vit(), [24, 24]),
        ("vit on another grid", small_vit(), [32, 16]),
        ("vit with registers", with_registers(), [24, 24]),
        (
            "vit with registers on another grid",
            with_registers(),
            [16, 32],
        ),
        (
            "vit that pools class and patches",
            VitConfig {
                pooling: Pooling::Both,
                ..with_registers()
            },
            [24, 16],
        ),
    ] {
        let images = normal(1, (4, 3, sides[0], sides[1]));
        agrees(what, &images, VIT, |parameters, device| {
            let vb = parameters.builder(DType::F32, &Candle::Cpu);
            Ok(Vit::new(&config, vb)?.on(device))
        });
    }
}

/// A frozen network on each device beside the CPU's, on images of several sizes and numbers; that it is a snapshot.
fn frozen_agrees(
    config: &EncoderConfig,
    shapes: &[[usize; 3]],
    build: impl Fn(&Parameters) -> Result<Backbone>,
    [f32s, bf16s]: [f64; 2],
) {
    let case = |device: Option<Device>| -> Result<(Backbone, Parameters)> {
        let parameters = Parameters::new(5);
        let network = build(&parameters)?.on(device);
        move_away(&parameters)?;
        // Statistics, weights and scales that are not those of the start.
        for (i, (name, var)) in parameters.all().iter().enumerate() {
            let noise = normal(300 + i as u64, var.dims());
            match name.rsplit('.').next() {
                Some("running_mean") => var.set(&(noise * 0.3)?)?,
                Some("running_var") => var.set(&(noise.abs()? + 0.5)?)?,
                Some("gamma") => var.set(&(noise * 0.7)?)?,
                _ => {}
            }
        }
        Ok((network, parameters))
    };
    let what = config.architecture.name();
    let host = case(None).unwrap().0.freeze().unwrap();
    assert!(host.device().is_none());
    for (device, real) in devices() {
        let (network, parameters) = case(Some(device)).unwrap();
        let frozen = network.freeze().unwrap();
        assert!(frozen.device().is_some());
        assert_eq!(frozen.width(), host.width());
        let weight = parameters
            .trainable()
            .into_iter()
            .find(|(_, var)| var.rank() > 1);
        let (_, weight) = weight.unwrap();
        weight.set(&weight.affine(3., 0.).unwrap()).unwrap();
        let allowed = match real {
            Real::F32 => f32s,
            Real::Bf16 => bf16s,
        };
        for (seed, [n, h, w]) in shapes.iter().enumerate() {
            let images = normal(40 + seed as u64, (*n, 3, *h, *w));
            let of = |frozen: &FrozenBackbone| {
                let Features { map, pooled } = frozen.features(&images).unwrap();
                let embedded = frozen.embed(&images).unwrap();
                [("map", map), ("pooled", pooled), ("embedded", embedded)]
                    .map(|(name, tensor)| (name.to_owned(), tensor))
                    .into()
            };
            let what = format!("{what}, frozen, maps of {}, {n} of {h}x{w}", real.name());
            assert_close_each(&what, &of(&frozen), &of(&host), allowed);
        }
        let error = frozen.embed(&normal(1, (2, 4, 32, 32))).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("expected (N, 3, H, W)"), "{error}");
    }
}

#[test]
fn frozen_residual_networks() {
    let narrow = |architecture: Architecture| EncoderConfig {
        width: 8,
        ..EncoderConfig::from(architecture)
    };
    let small = |architecture: Architecture| EncoderConfig {
        stem: Stem::Small,
        ..narrow(architecture)
    };
    for (config, shapes) in [
        (
            narrow(Architecture::ResNet10),
            vec![[3, 48, 40], [1, 33, 47]],
        ),
        (
            small(Architecture::ResNet14),
            vec![[2, 32, 32], [3, 17, 23]],
        ),
        (small(Architecture::WideResNet50x2), vec![[2, 24, 24]]),
    ] {
        let build = |parameters: &Parameters| {
            Backbone::new(&config, parameters.builder(DType::F32, &Candle::Cpu))
        };
        frozen_agrees(&config, &shapes, build, [1e-5, 3e-2]);
    }
}

#[test]
fn frozen_vision_transformers() {
    let pooled = |pooling| VitConfig {
        pooling,
        ..with_registers()
    };
    for network in [
        small_vit(),
        with_registers(),
        pooled(Pooling::PatchMean),
        pooled(Pooling::Both),
    ] {
        let build = |parameters: &Parameters| {
            let vb = parameters.builder(DType::F32, &Candle::Cpu);
            Ok(Backbone::Vit(Vit::new(&network, vb)?))
        };
        // Grids by turns, so that tables are dropped and made again.
        let shapes = [[3, 24, 24], [2, 32, 16], [1, 16, 16], [2, 24, 24]];
        let config = EncoderConfig::from(Architecture::VitTinyPatch16);
        frozen_agrees(&config, &shapes, build, [1e-5, 2e-2]);
    }
}

#[test]
fn a_frozen_network_on_a_device_keeps_numbers_that_are_none() {
    for (device, _) in devices() {
        let config = EncoderConfig {
            width: 8,
            ..EncoderConfig::from(Architecture::ResNet10)
        };
        let vb = Parameters::new(0).builder(DType::F32, &Candle::Cpu);
        let network = Backbone::new(&config, vb).unwrap().on(Some(device));
        let images = normal(7, (1, 3, 32, 32)).affine(1., f64::NAN).unwrap();
        let pooled = network.freeze().unwrap().embed(&images).unwrap();
        let pooled: Vec<f32> = pooled.flatten_all().unwrap().to_vec1().unwrap();
        assert!(pooled.iter().all(|v| v.is_nan()), "{pooled:?}");
    }
}

#[test]
fn gradients_of_a_vision_transformer_do_not_depend_on_whether_that_of_the_images_is_wanted() {
    let images = normal(1, (2, 3, 24, 24));
    for (device, _) in devices() {
        let pass = |to_images: bool| -> Result<BTreeMap<String, Tensor>> {
            let parameters = Parameters::new(5);
            let vb = parameters.builder(DType::F32, &Candle::Cpu);
            let vit = Vit::new(&small_vit(), vb)?.on(Some(device.clone()));
            let (features, tape) = match to_images {
                true => vit.forward_train_to_images(&images, NormMode::Train)?,
                false => vit.forward_train(&images, NormMode::Train)?,
            };
            let leaves = features.pooled.sqr()?.sum_all()?.backward()?;
            let mut gradients = ParameterGradients::default();
            let at_images = tape.backward(&leaves, &mut gradients)?;
            assert_eq!(at_images.is_some(), to_images);
            let named = parameters.trainable().into_iter();
            Ok(named
                .map(|(name, var)| (name, gradients.get(&var).unwrap().clone()))
                .collect())
        };
        assert_close_each("bits", &pass(false).unwrap(), &pass(true).unwrap(), 0.);
    }
}

/// What a vision transformer lets be seen on its way, and what its class token attends to.
fn seen(device: Option<Device>) -> Result<BTreeMap<String, Tensor>> {
    let parameters = Parameters::new(5);
    let vb = parameters.builder(DType::F32, &Candle::Cpu);
    let vit = Backbone::Vit(Vit::new(&with_registers(), vb)?);
    move_away(&parameters)?;
    // As they start, queries and keys are so small that all shares are equal.
    for (name, var) in parameters.trainable() {
        if name.ends_with("qkv.weight") {
            var.set(&(var.as_tensor() * 20.)?)?;
        }
    }
    let vit = vit.on(device);
    let images = normal(1, (2, 3, 24, 24));
    let names = vit.intermediate_names();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = vit.intermediates(&images, NormMode::Eval, &wanted)?;
    let features = vit.features(&images, NormMode::Eval)?;
    found.insert("features".to_owned(), features.pooled);
    let layers = vit.class_attention(&images, NormMode::Eval)?.unwrap();
    for (i, layer) in layers.into_iter().enumerate() {
        found.insert(format!("class attention of layer {i}"), layer);
    }
    Ok(found)
}

#[test]
fn what_a_vision_transformer_attends_to() {
    let expected = seen(None).unwrap();
    assert_eq!(expected["class attention of layer 1"].dims(), [2, 3, 3]);
    assert_eq!(expected["attention.0"].dims(), [2, 2, 12, 12]);
    assert_eq!(expected["blocks.0"].dims(), [2, 12, 16]);
    let spread = expected["class attention of layer 0"]
        .flatten_all()
        .unwrap();
    let spread = spread.to_vec1::<f32>().unwrap();
    let largest = spread.iter().copied().fold(0f32, f32::max);
    assert!(largest > 0.15, "shares are all alike: {spread:?}");
    for (device, real) in devices() {
        let allowed = match real {
            Real::F32 => 1e-5,
            Real::Bf16 => 3e-2,
        };
        let found = seen(Some(device)).unwrap();
        assert_close_each(real.name(), &found, &expected, allowed);
    }
}
