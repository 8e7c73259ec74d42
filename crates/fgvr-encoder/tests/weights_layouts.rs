//! Files as the programs of the field write them give the same variables, bit for bit. The files
//! and the script that makes them are `tests/golden/weights.py`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use candle_nn::Init;
use fgvr_encoder::weights::{
    FoundArchitecture, Interpolation, LoadOptions, LoadReport, Preprocessing, Resize, Weights, load,
};
use fgvr_encoder::{Error, ResNet, ResNetConfig, Stem, Vit, VitConfig};
use fgvr_nn::Parameters;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/weights")
        .join(name)
}

/// Variables by the names and shapes of a file, all of them 7.
fn variables(reference: &str) -> Parameters {
    let parameters = Parameters::new(0);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let tensors = candle_core::safetensors::load(golden(reference), &Device::Cpu).unwrap();
    for (name, tensor) in tensors {
        vb.get_with_hints(tensor.dims(), &name, Init::Const(7.))
            .unwrap();
    }
    parameters
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Loads `file` into the variables of `reference` and compares them with its tensors.
fn check(file: &str, reference: &str) -> LoadReport {
    let parameters = variables(reference);
    let weights = Weights::open_file(golden(file)).unwrap_or_else(|error| panic!("{error}"));
    let report = load(&parameters, &weights, &LoadOptions::default())
        .unwrap_or_else(|error| panic!("{file}: {error}"))
        .strict()
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let expected = candle_core::safetensors::load(golden(reference), &Device::Cpu).unwrap();
    let vars = parameters.all();
    assert_eq!(vars.len(), expected.len());
    for (name, tensor) in expected {
        assert_eq!(bits(&tensor), bits(&vars[&name]), "{file}: {name}");
    }
    assert_eq!(report.loaded.len(), vars.len());
    let text = report.to_string();
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    report
}

#[test]
fn resnets_of_every_program_give_the_same_variables() {
    for (file, layout) in [
        ("resnet.safetensors", "timm's names"),
        ("torchvision_resnet.pth", "timm's names"),
        (
            "moco_v2.pth.tar",
            "timm's names under \"state_dict.module.encoder_q.\" (MoCo's query encoder)",
        ),
        (
            "transformers_resnet",
            "transformers' ResNet names under \"resnet.\"",
        ),
        (
            "lightly.safetensors",
            "ResNet names by index in a Sequential under \"backbone.\" (a backbone)",
        ),
    ] {
        let report = check(file, "resnet.safetensors");
        assert_eq!(report.layout, layout);
        assert_eq!(report.preprocessing, Preprocessing::imagenet());
    }
}

#[test]
fn plain_vits_of_every_program_give_the_same_variables() {
    for (file, layout) in [
        ("vit.safetensors", "timm's names"),
        ("timm_vit", "timm's names"),
        ("torchvision_vit.safetensors", "torchvision's ViT names"),
        ("transformers_vit", "transformers' ViT names under \"vit.\""),
        (
            "transformers_vit_state.safetensors",
            "transformers' ViT names under \"vit.\"",
        ),
        ("sharded", "transformers' ViT names under \"vit.\""),
        ("sharded_bin", "timm's names"),
        ("views.pth", "timm's names under \"model.\""),
    ] {
        assert_eq!(check(file, "vit.safetensors").layout, layout, "{file}");
    }
}

#[test]
fn dinov2_of_every_program_gives_the_same_variables() {
    check("transformers_dinov2", "dinov2.safetensors");
    for file in ["transformers_dinov2_reg", "facebook_dinov2_reg.pth"] {
        let report = check(file, "dinov2_reg.safetensors");
        let [reshaped] = report.reshaped.as_slice() else {
            panic!("{:?}", report.reshaped);
        };
        assert_eq!(
            (&reshaped.from[..], &reshaped.to[..]),
            (&[1, 10, 4][..], &[1, 9, 4][..])
        );
        assert_eq!(
            reshaped.how,
            "the class token's position added to the class token"
        );
        assert!(
            report
                .ignored
                .iter()
                .any(|i| i.name.ends_with("mask_token"))
        );
    }
}

#[test]
fn the_trained_encoder_is_taken_and_for_dino_the_teacher() {
    let report = check("moco_v3.safetensors", "vit.safetensors");
    assert_eq!(report.prefix, "module.base_encoder.");
    assert!(report.notes[0].contains("also lies under \"module.momentum_encoder.\""));
    let report = check("dino.pth", "vit.safetensors");
    assert_eq!(report.prefix, "teacher.backbone.");
    assert!(report.notes[0].contains("student.module.backbone."));
}

#[test]
fn heads_queues_and_other_networks_are_ignored_with_the_reason() {
    let report = check("moco_v2.pth.tar", "resnet.safetensors");
    let reasons: BTreeMap<&str, &str> = report
        .ignored
        .iter()
        .map(|ignored| (ignored.name.as_str(), ignored.reason.as_str()))
        .collect();
    assert_eq!(reasons["state_dict.module.encoder_q.fc.0.weight"], "a head");
    assert_eq!(
        reasons["state_dict.module.encoder_q.bn1.num_batches_tracked"],
        "a count of batches"
    );
    assert_eq!(
        reasons["state_dict.module.queue"],
        "outside \"state_dict.module.encoder_q.\""
    );
    let [file] = report.files.as_slice() else {
        panic!("{:?}", report.files);
    };
    assert_eq!(file.sha256.len(), 64);
    assert_eq!(
        file.bytes,
        std::fs::metadata(golden("moco_v2.pth.tar")).unwrap().len()
    );
}

#[test]
fn preprocessing_comes_with_the_weights() {
    let half = Preprocessing {
        size: [224, 224],
        resize: Resize::ShorterSide(248),
        mean: [0.5; 3],
        std: [0.5; 3],
        interpolation: Interpolation::Bicubic,
    };
    let report = check("timm_vit", "vit.safetensors");
    assert_eq!(report.preprocessing, half);
    assert!(report.preprocessing_from.ends_with("config.json"));
    let report = check("transformers_vit", "vit.safetensors");
    let squashed = Preprocessing {
        resize: Resize::Exact,
        interpolation: Interpolation::Bilinear,
        ..half
    };
    assert_eq!(report.preprocessing, squashed);
    assert!(
        report
            .preprocessing_from
            .ends_with("preprocessor_config.json")
    );
    assert!(
        report.notes[0].contains("layer_norm_eps is 1e-12"),
        "{:?}",
        report.notes
    );
    let report = check("facebook_dinov2_reg.pth", "dinov2_reg.safetensors");
    assert_eq!(report.preprocessing_from, "assumed: DINOv2's");
}

#[test]
fn the_network_is_seen_in_names_and_shapes() {
    let weights = Weights::open_file(golden("facebook_dinov2_reg.pth")).unwrap();
    assert_eq!(
        weights.architecture(),
        Some(&FoundArchitecture::Vit {
            width: 4,
            depth: 2,
            patch: [2, 2],
            layer_scale: true,
            registers: 2
        })
    );
    let weights = Weights::open_file(golden("lightly.safetensors")).unwrap();
    assert_eq!(
        weights.architecture().unwrap().to_string(),
        "a ResNet of 1, 1, 1 and 1 basic blocks, 1 channels in its stem"
    );
    assert_eq!(
        Weights::open_file(golden("timm_vit"))
            .unwrap()
            .stated_architecture()
            .unwrap()
            .as_deref(),
        Some("vit_tiny_patch16_224")
    );
}

#[test]
fn weights_of_another_network_are_an_error_that_names_both() {
    for file in ["torchvision_resnet.pth", "dinov2.safetensors"] {
        let parameters = variables("vit.safetensors");
        let weights = Weights::open_file(golden(file)).unwrap();
        let error = load(&parameters, &weights, &LoadOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Architecture { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("expected a ViT of 1 blocks of 4 channels"),
            "{error}"
        );
        for var in parameters.all().values() {
            assert!(bits(var).iter().all(|bits| *bits == 7f32.to_bits()));
        }
    }
}

#[test]
fn a_position_embedding_of_another_grid_is_resized() {
    let parameters = Parameters::new(0);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let tensors = candle_core::safetensors::load(golden("vit.safetensors"), &Device::Cpu).unwrap();
    for (name, tensor) in tensors {
        let dims = if name == "pos_embed" {
            vec![1, 17, 4]
        } else {
            tensor.dims().to_vec()
        };
        vb.get_with_hints(dims, &name, Init::Const(7.)).unwrap();
    }
    let weights = Weights::open_file(golden("transformers_vit")).unwrap();
    let report = load(&parameters, &weights, &LoadOptions::default()).unwrap();
    assert_eq!(
        report.reshaped[0].how,
        "grid of 3x3 resized to 4x4, bicubic"
    );
    let before = weights.read("vit.embeddings.position_embeddings").unwrap();
    let after = parameters.all()["pos_embed"].as_tensor().clone();
    let class = |tensor: &Tensor| bits(&tensor.narrow(1, 0, 1).unwrap());
    assert_eq!(class(&before), class(&after));
}

#[test]
fn the_networks_of_this_crate_take_the_files_as_they_are() {
    let config = VitConfig {
        patch_size: 2,
        image_size: 6,
        width: 4,
        depth: 2,
        heads: 2,
        mlp_ratio: 2,
        layer_scale: Some(1.),
        registers: 2,
        embed_prefix: false,
        ..VitConfig::default()
    };
    let reference = candle_core::safetensors::load(golden("dinov2_reg.safetensors"), &Device::Cpu);
    let reference = reference.unwrap();
    for (embed_prefix, image_size) in [(false, 6), (true, 6), (true, 8)] {
        let config = VitConfig {
            embed_prefix,
            image_size,
            ..config.clone()
        };
        let parameters = Parameters::new(0);
        Vit::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
        for file in ["dinov2_reg.safetensors", "facebook_dinov2_reg.pth"] {
            let weights = Weights::open_file(golden(file)).unwrap();
            let report = load(&parameters, &weights, &LoadOptions::default()).unwrap();
            report.strict().unwrap();
            let vars = parameters.all();
            if image_size == 6 {
                // Token and position together are the same, wherever the position is kept.
                let positions = &vars["pos_embed"];
                let mut class = vars["cls_token"].as_tensor().clone();
                let mut registers = vars["reg_token"].as_tensor().clone();
                if embed_prefix {
                    class = (class + positions.narrow(1, 0, 1).unwrap()).unwrap();
                    registers = (registers + positions.narrow(1, 1, 2).unwrap()).unwrap();
                }
                assert_eq!(bits(&class), bits(&reference["cls_token"]));
                assert_eq!(bits(&registers), bits(&reference["reg_token"]));
                let patches = positions
                    .narrow(1, 3 * usize::from(embed_prefix), 9)
                    .unwrap();
                assert_eq!(bits(&patches), bits(&reference["pos_embed"]));
            } else {
                assert_eq!(vars["pos_embed"].dims(), [1, 3 + 16, 4]);
            }
        }
    }
}

#[test]
fn another_stem_loads_when_its_weights_are_allowed_to_be_missing() {
    let config = ResNetConfig {
        depth: 10,
        width: 1,
        stem: Stem::Small,
        ..ResNetConfig::resnet18()
    };
    let parameters = Parameters::new(0);
    ResNet::new(&config, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    let weights = Weights::open_file(golden("torchvision_resnet.pth")).unwrap();
    let error = load(&parameters, &weights, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let allowed = |name: &str| LoadOptions {
        allow_missing: vec![name.to_owned()],
        ..LoadOptions::default()
    };
    let report = load(&parameters, &weights, &allowed("conv1.*")).unwrap();
    assert_eq!(report.missing, ["conv1.weight"]);
    let ignored = report
        .ignored
        .iter()
        .find(|i| i.name == "conv1.weight")
        .unwrap();
    assert_eq!(
        ignored.reason,
        "shape [1, 3, 7, 7], the variable's is [1, 3, 3, 3]"
    );
    let error = load(&parameters, &weights, &allowed("conv9.*")).unwrap_err();
    assert!(matches!(error, Error::AllowMissing { .. }), "{error}");
}

#[test]
fn a_file_of_before_torch_1_6_is_read() {
    let weights = Weights::open_file(golden("legacy.pth")).unwrap();
    let tensor = weights.read("conv1.weight").unwrap();
    assert_eq!(tensor.to_vec1::<f32>().unwrap(), [0., 0.]);
}

#[test]
fn a_summary_fits_in_a_hundred_columns() {
    for file in [
        "moco_v2.pth.tar",
        "timm_vit",
        "transformers_dinov2_reg",
        "sharded",
    ] {
        let summary = Weights::open_file(golden(file)).unwrap().summary();
        let text = summary.to_string();
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        assert_eq!(
            summary
                .groups
                .iter()
                .map(|group| group.tensors)
                .sum::<usize>(),
            summary.tensors
        );
    }
}
