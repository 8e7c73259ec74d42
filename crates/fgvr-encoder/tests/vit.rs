//! Small vision transformers against timm: `tests/golden/vit.py` says what is stored and how the
//! parameters come from their names.

#![allow(clippy::unwrap_used)]

mod support;

use candle_core::{DType, Device, Tensor};
use fgvr_encoder::{Initialisation, Pooling, Positions, Vit, VitConfig, vit};
use fgvr_nn::{Encoder, NormMode, Parameters};
use fgvr_testkit::{assert_close, golden, normal};
use support::{Stored, TrainingPass, affine};

/// What a tensor of this name holds.
fn values(name: &str, dims: &[usize]) -> Tensor {
    let (scale, offset) = if name.ends_with("gamma") {
        (0.25, 0.5)
    } else if dims.len() == 1 {
        (0.25, f64::from(u8::from(name.ends_with("weight"))))
    } else if name.ends_with("weight") {
        ((6. / dims[1..].iter().product::<usize>() as f64).sqrt(), 0.)
    } else if name.ends_with("pos_embed") || name.ends_with("_token") {
        (0.5, 0.)
    } else {
        (1., 0.)
    };
    affine(name, dims, scale, offset)
}

fn plain() -> VitConfig {
    VitConfig {
        patch_size: 8,
        image_size: 32,
        width: 24,
        depth: 2,
        heads: 3,
        ..VitConfig::small_patch16()
    }
}

/// With layer scale and registers.
fn registers() -> VitConfig {
    VitConfig {
        image_size: 42,
        width: 20,
        depth: 2,
        heads: 2,
        ..VitConfig::small_patch16().dinov2().with_registers(2)
    }
}

fn network(config: &VitConfig) -> (Vit, Parameters) {
    let parameters = Parameters::new(0);
    let model = Vit::new(config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    for (name, var) in parameters.all() {
        var.set(&values(&name, var.dims())).unwrap();
    }
    (model, parameters)
}

fn cases() -> [(&'static str, VitConfig, [usize; 4]); 4] {
    [
        ("plain", plain(), [2, 3, 32, 32]),
        ("resized", plain(), [2, 3, 24, 48]),
        ("registers", registers(), [2, 3, 42, 42]),
        ("registers_resized", registers(), [1, 3, 56, 28]),
    ]
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn features_blocks_and_attention_are_timms() {
    for (case, config, dims) in cases() {
        let (model, _) = network(&config);
        let stored = Stored::new("vit.safetensors", case);
        let images = values("images", &dims);
        let wanted = ["blocks.0", "blocks.1", "attention.1"];
        let (features, inside) = model.features_and_intermediates(&images, &wanted).unwrap();
        stored.expect("eval.map", &features.map);
        stored.expect("eval.pooled", &features.pooled);
        assert_eq!(inside.len(), wanted.len());
        for (name, tensor) in &inside {
            stored.expect(&format!("eval.{name}"), tensor);
        }
        let plain = model.features(&images, NormMode::Eval).unwrap();
        assert_eq!(flat(&plain.map), flat(&features.map), "{case}");
        assert_eq!(flat(&plain.pooled), flat(&features.pooled), "{case}");
    }
}

/// `tests/golden/heads.py` has the same network with other settings that leave no trace in its tensors.
#[test]
fn heads_and_epsilon_change_features_as_they_should() {
    let stored = golden("heads.safetensors");
    let images = values("images", &[2, 3, 32, 32]);
    let heads =
        [2, 3, 6, 12].map(|heads| (format!("heads.{heads}"), VitConfig { heads, ..plain() }));
    let eps = VitConfig {
        norm_eps: 1e-2,
        ..plain()
    };
    let cases = heads.into_iter().chain([("eps".to_owned(), eps)]);
    let mut before: Option<Vec<f32>> = None;
    for (case, config) in cases {
        let (model, _) = network(&config);
        let features = model.features(&images, NormMode::Eval).unwrap();
        let frozen = model.freeze().unwrap();
        let frozen = frozen.features(&images).unwrap();
        for (features, how) in [(&features, "live"), (&frozen, "frozen")] {
            assert_close(
                &format!("{case} map, {how}"),
                &features.map,
                &stored.get(&format!("{case}.map")),
                2e-6,
            );
            let pooled = stored.get(&format!("{case}.pooled"));
            assert_close(
                &format!("{case} pooled, {how}"),
                &features.pooled,
                &pooled,
                2e-6,
            );
        }
        let pooled = flat(&features.pooled);
        if let Some(before) = before.replace(pooled.clone()) {
            let apart = before
                .iter()
                .zip(&pooled)
                .map(|(a, b)| (a - b).abs())
                .fold(0., f32::max);
            assert!(
                apart > 1e-2,
                "{case} is no other network than the one before: {apart}"
            );
        }
    }
}

#[test]
fn fixed_positions_are_moco_v3s_and_stay_when_the_network_is_built_again() {
    let config = VitConfig {
        positions: Positions::Sincos,
        initialisation: Initialisation::Xavier,
        ..plain()
    };
    let parameters = Parameters::new(0);
    let build = || Vit::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    let first = build();
    let table = parameters.all()["pos_embed"].as_tensor().copy().unwrap();
    assert_close(
        "sincos",
        &table,
        &golden("heads.safetensors").get("sincos"),
        1e-6,
    );
    // Within sqrt(6 / (inputs + outputs)), query, key and value each by itself, and no biases.
    let vars = parameters.all();
    for (name, sides) in [
        ("patch_embed.proj.weight", 3 * 64 + 24),
        ("blocks.0.attn.qkv.weight", 24 + 24),
        ("blocks.1.mlp.fc1.weight", 24 + 96),
    ] {
        let bound = (6. / sides as f32).sqrt();
        let largest = flat(&vars[name])
            .into_iter()
            .map(f32::abs)
            .fold(0., f32::max);
        assert!(
            largest <= bound && largest > 0.9 * bound,
            "{name}: {largest} of {bound}"
        );
    }
    assert!(
        flat(&vars["patch_embed.proj.bias"])
            .iter()
            .all(|bias| *bias == 0.)
    );
    // Loaded values are not written over.
    let images = values("images", &[1, 3, 32, 32]);
    let loaded = values("pos_embed", &[1, 17, 24]);
    vars["pos_embed"].set(&loaded).unwrap();
    let again = build();
    assert_eq!(flat(&parameters.all()["pos_embed"]), flat(&loaded));
    let pooled = |model: &Vit| flat(&model.features(&images, NormMode::Eval).unwrap().pooled);
    assert_eq!(pooled(&first), pooled(&again));
}

#[test]
fn what_the_class_token_attends_to_is_its_row_of_timms_attention() {
    for (case, config, dims) in cases() {
        let (model, _) = network(&config);
        let stored = Stored::new("vit.safetensors", case);
        let images = values("images", &dims);
        let wanted = ["attention.0", "attention.1", "class_attention.0"];
        let (features, inside) = model.features_and_intermediates(&images, &wanted).unwrap();
        let (n, _, h, w) = features.map.dims4().unwrap();
        let layers = model.class_attention(&images, NormMode::Eval).unwrap();
        let layers = layers.unwrap();
        assert_eq!(layers.len(), config.depth);
        stored.expect("eval.attention.1", &inside["attention.1"]);
        for (layer, found) in layers.iter().enumerate() {
            assert_eq!(found.dims(), [n, h, w], "{case}");
            // (N, heads, T, T) -> (N, T), and the patches of it
            let rows = inside[&format!("attention.{layer}")].mean(1).unwrap();
            let rows = rows.narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
            let patches = rows.narrow(1, config.prefix_tokens(), h * w).unwrap();
            let patches = patches.reshape((n, h, w)).unwrap();
            assert_close(case, found, &patches, 1e-5);
        }
        let whole = inside["class_attention.0"].sum(1).unwrap();
        assert_close(case, &whole, &whole.ones_like().unwrap(), 1e-5);
        let plain = model.features(&images, NormMode::Eval).unwrap();
        assert_eq!(flat(&plain.map), flat(&features.map), "{case}");
    }
}

#[test]
fn frozen_features_are_timms() {
    for (case, config, dims) in cases() {
        let (model, _) = network(&config);
        let stored = Stored::new("vit.safetensors", case);
        let (images, frozen) = (values("images", &dims), model.freeze().unwrap());
        let features = frozen.features(&images).unwrap();
        stored.expect("eval.map", &features.map);
        stored.expect("eval.pooled", &features.pooled);
        let embedded = frozen.embed(&images).unwrap();
        assert_eq!(flat(&embedded), flat(&features.pooled), "{case}");
    }
}

#[test]
fn a_training_pass_is_timms() {
    for (case, config, dims) in cases() {
        let (model, parameters) = network(&config);
        let stored = Stored::new("vit.safetensors", case);
        let pass = TrainingPass::new(&model, &values("images", &dims), NormMode::Train);
        stored.expect("eval.map", &pass.features.map);
        stored.expect("eval.pooled", &pass.features.pooled);
        stored.expect_gradients("grad", &pass, parameters.trainable());
    }
}

/// `tests/golden/pooling.py`: timm's mean of patches, and the class token with it.
#[test]
fn other_poolings_and_their_gradients_are_timms() {
    for pooling in [Pooling::PatchMean, Pooling::Both] {
        let config = VitConfig {
            pooling,
            ..registers()
        };
        let (model, parameters) = network(&config);
        let stored = Stored::new("pooling.safetensors", pooling.name());
        let images = values("images", &[2, 3, 42, 28]);
        let pass = TrainingPass::new(&model, &images, NormMode::Train);
        let features = &pass.features;
        assert_eq!(features.pooled.dims()[1], model.width());
        stored.expect("eval.pooled", &features.pooled);
        let frozen = model.freeze().unwrap();
        assert_eq!(frozen.width(), model.width());
        let seen = frozen.features(&images).unwrap();
        assert_close("map", &seen.map, &features.map, 1e-5);
        stored.expect("eval.pooled", &seen.pooled);
        stored.expect("eval.pooled", &frozen.embed(&images).unwrap());
        stored.expect_gradients("grad", &pass, parameters.trainable());
    }
}

#[test]
fn names_and_shapes_are_timms() {
    assert_eq!(support::names_and_shapes_are_those_of("vit_names.txt"), 7);
}

#[test]
fn a_position_embedding_is_resized_as_timm_does() {
    let golden = golden("vit.safetensors");
    let mut seen = 0;
    for (name, expected) in golden.tensors() {
        let Some(sizes) = name.strip_prefix("resample.") else {
            continue;
        };
        let sizes: Vec<usize> = sizes.split('.').map(|s| s.parse().unwrap()).collect();
        let [prefix, side, h, w] = sizes.try_into().unwrap();
        let table = values("resample", &[1, prefix + side * side, 3]);
        let found = vit::resample_position_embedding(&table, prefix, [h, w]).unwrap();
        assert_close(name, &found, expected, 1e-5);
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[test]
fn a_position_embedding_that_is_no_square_is_refused() {
    let resample = |tokens, prefix, to| {
        let table = Tensor::zeros((1, tokens, 3), DType::F32, &Device::Cpu).unwrap();
        vit::resample_position_embedding(&table, prefix, to)
    };
    assert!(resample(17, 1, [2, 2]).is_ok());
    for (tokens, prefix, to) in [
        (17, 0, [2, 2]),
        (1, 1, [2, 2]),
        (1, 5, [2, 2]),
        (17, 1, [0, 2]),
    ] {
        let error = resample(tokens, prefix, to).unwrap_err().to_string();
        assert!(error.contains("a square number"), "{error}");
    }
}

#[test]
fn the_initial_values_are_timms() {
    let config = VitConfig {
        depth: 1,
        ..VitConfig::tiny_patch16().dinov2().with_registers(4)
    };
    let parameters = Parameters::new(5);
    Vit::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    for (name, var) in parameters.all() {
        let values = flat(&var);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        let deviation = (square - mean * mean).max(0.).sqrt();
        let constant = |value: f32| assert!(values.iter().all(|v| *v == value), "{name}");
        let about = |expected: f32| {
            let off = (deviation / expected - 1.).abs();
            assert!(off < 0.1, "{name}: deviation {deviation}, not {expected}");
            assert!(mean.abs() < 0.2 * expected, "{name}: mean {mean}");
        };
        match name.as_str() {
            // Uniform within 1 / sqrt(3 * 14 * 14).
            "patch_embed.proj.weight" | "patch_embed.proj.bias" => about(0.0238),
            "cls_token" | "reg_token" => about(1e-6),
            "pos_embed" => about(0.02),
            name if name.ends_with("gamma") => constant(1e-5),
            name if name.contains("norm") && name.ends_with("weight") => constant(1.),
            name if name.ends_with("bias") => constant(0.),
            _ => about(0.02),
        }
    }
}

#[test]
fn images_that_are_not_whole_patches_are_one_clear_error() {
    let (model, _) = network(&plain());
    let frozen = model.freeze().unwrap();
    let images = normal(1, (1, 3, 32, 30));
    for error in [
        model.features(&images, NormMode::Eval).err(),
        frozen.embed(&images).err(),
        frozen.features(&images).err(),
    ] {
        let error = error.unwrap().to_string();
        assert!(
            error.contains("32 x 30 pixels are not whole patches of 8 x 8"),
            "{error}"
        );
    }
    let grey = normal(1, (1, 1, 32, 32));
    let error = model.features(&grey, NormMode::Eval).unwrap_err();
    assert!(error.to_string().contains("expected (N, 3, H, W)"));
    assert!(frozen.embed(&grey).is_err());
    assert!(frozen.embed(&normal(1, (0, 3, 32, 32))).is_err());
}

#[test]
fn an_intermediate_that_does_not_exist_is_named_with_those_that_do() {
    let (model, _) = network(&plain());
    let images = normal(1, (1, 3, 32, 32));
    let error = model.intermediates(&images, &["blocks.2"]).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("`blocks.2` is not among blocks.0, blocks.1, norm, attention.0"),
        "{error}"
    );
    let norm = model.intermediates(&images, &["norm"]).unwrap();
    assert_eq!(norm["norm"].dims(), [1, 17, 24]);
}

#[test]
fn training_does_not_change_what_was_frozen() {
    let (model, parameters) = network(&registers());
    let images = normal(6, (2, 3, 42, 42));
    let frozen = model.freeze().unwrap();
    let before = flat(&frozen.features(&images).unwrap().map);
    for var in parameters.all().values() {
        var.set(&var.affine(1.5, 0.1).unwrap()).unwrap();
    }
    assert_eq!(flat(&frozen.features(&images).unwrap().map), before);
    assert_ne!(
        flat(&model.features(&images, NormMode::Eval).unwrap().map),
        before
    );
}

#[test]
fn frozen_bits_depend_neither_on_threads_nor_on_the_batch() {
    let config = VitConfig {
        image_size: 96,
        width: 48,
        ..plain()
    };
    let (model, _) = network(&config);
    let frozen = model.freeze().unwrap();
    let images = normal(8, (3, 3, 96, 96));
    let run = |threads, images: &Tensor| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        flat(&pool.install(|| frozen.embed(images)).unwrap())
    };
    let one = run(1, &images);
    assert_eq!(one, run(2, &images));
    assert_eq!(one, run(3, &images));
    let last = images.narrow(0, 2, 1).unwrap();
    assert_eq!(one[2 * 48..], run(2, &last));
}

#[test]
fn nan_pixels_stay_nan() {
    let (model, _) = network(&plain());
    let images = normal(7, (1, 3, 32, 32)).affine(1., f64::NAN).unwrap();
    let frozen = model.freeze().unwrap();
    assert!(
        flat(&frozen.embed(&images).unwrap())
            .iter()
            .all(|v| v.is_nan())
    );
}
