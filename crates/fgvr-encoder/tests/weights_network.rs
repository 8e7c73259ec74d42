//! The network that is loaded is the one that was trained: what leaves no trace in shapes is looked for in names and in
//! `config.json`, and stops a load where it does not fit.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use fgvr_encoder::export::{Export, Format};
use fgvr_encoder::weights::{LoadOptions, LoadReport, Preprocessing, Weights, load};
use fgvr_encoder::{
    Architecture, Backbone, EncoderConfig, Error, Initialisation, Overwrite, Positions, Stem,
};
use fgvr_nn::Parameters;
use tempfile::TempDir;

/// A ResNet-18 of 4 channels.
fn resnet() -> EncoderConfig {
    EncoderConfig {
        width: 4,
        ..EncoderConfig::from(Architecture::ResNet18)
    }
}

/// A ViT-Ti/16 for images of 32 px.
fn vit() -> EncoderConfig {
    EncoderConfig {
        image_size: Some(32),
        ..EncoderConfig::from(Architecture::VitTinyPatch16)
    }
}

fn variables(encoder: &EncoderConfig) -> Parameters {
    let parameters = Parameters::new(0);
    Backbone::new(encoder, parameters.builder(DType::F32, &Device::Cpu)).unwrap();
    parameters
}

/// The tensors of `encoder`, each name after `prefix`, and zeros of the names in `more`.
fn tensors(encoder: &EncoderConfig, prefix: &str, more: &[&str]) -> HashMap<String, Tensor> {
    let vars = variables(encoder).all().into_iter();
    let own = vars.map(|(name, var)| (format!("{prefix}{name}"), var.as_tensor().clone()));
    let zeros = |name: &&str| {
        (
            (*name).to_owned(),
            Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap(),
        )
    };
    own.chain(more.iter().map(zeros)).collect()
}

/// A folder with the tensors in a file.
fn folder(tensors: &HashMap<String, Tensor>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    candle_core::safetensors::save(tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

fn say(folder: &TempDir, config: &str) {
    fs::write(folder.path().join("config.json"), config).unwrap();
}

/// Loads the folder as a program does: into the network that the weights themselves ask for.
fn follow(folder: &Path, allowed: &[&str]) -> Result<LoadReport, Error> {
    let weights = Weights::open_file(folder)?;
    let encoder = EncoderConfig {
        image_size: vit()
            .image_size
            .filter(|_| weights.encoder().unwrap().architecture.is_vit()),
        ..weights.encoder().unwrap()
    };
    into(&encoder, &weights, allowed)
}

fn into(encoder: &EncoderConfig, weights: &Weights, allowed: &[&str]) -> Result<LoadReport, Error> {
    let options = LoadOptions {
        allow_mismatch: allowed.iter().map(|name| (*name).to_owned()).collect(),
        encoder: Some(encoder.clone()),
        ..LoadOptions::default()
    };
    load(&variables(encoder), weights, &options)
}

/// Each configuration stops the load with a text that names what does not fit, and passes once that is allowed.
fn all_stop(folder: &TempDir, table: &[(&str, &str, &str)]) {
    for (config, name, said) in table {
        say(folder, config);
        let error = follow(folder.path(), &[]).expect_err(config);
        assert!(
            matches!(error, Error::Unsupported { .. }),
            "{config}: {error}"
        );
        let text = error.to_string();
        assert!(
            text.contains(said) && !text.contains('\n'),
            "{config}: {text}"
        );
        assert_eq!(error.allowed_by().unwrap(), [*name], "{config}");
        follow(folder.path(), &[name]).unwrap_or_else(|error| panic!("{config}: {error}"));
    }
}

/// Each configuration loads, and nothing is said of it.
fn all_pass(folder: &TempDir, configs: &[&str]) {
    for config in configs {
        say(folder, config);
        let report = follow(folder.path(), &[]).unwrap_or_else(|error| panic!("{config}: {error}"));
        assert!(
            report.not_looked_at.is_empty(),
            "{config}: {:?}",
            report.not_looked_at
        );
        assert!(report.unexpected.is_empty(), "{config}");
    }
}

#[test]
fn a_configuration_of_another_residual_network_stops_the_load() {
    let folder = folder(&tensors(&resnet(), "", &[]));
    all_stop(
        &folder,
        &[
            (
                r#"{"architecture":"resnetblur18"}"#,
                "architecture",
                "architecture is \"resnetblur18\"",
            ),
            (
                r#"{"architecture":"seresnet18"}"#,
                "architecture",
                "seresnet18",
            ),
            (
                r#"{"architecture":"resnet18d"}"#,
                "architecture",
                "resnet18d",
            ),
            (
                r#"{"architecture":"gluon_resnet18_v1d"}"#,
                "architecture",
                "v1d",
            ),
            (
                r#"{"architecture":"resnet34"}"#,
                "architecture",
                "those of a ResNet of 2, 2, 2 and 2",
            ),
            (
                r#"{"architecture":"resnet50.a1_in1k"}"#,
                "architecture",
                "resnet50.a1_in1k",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224"}"#,
                "architecture",
                "vit_tiny",
            ),
            (
                r#"{"pretrained_cfg":{"architecture":"resnetaa18"}}"#,
                "architecture",
                "resnetaa18",
            ),
            (
                r#"{"model_type":"vit"}"#,
                "model_type",
                "model_type is \"vit\"",
            ),
            (r#"{"model_type":"regnet"}"#, "model_type", "regnet"),
            (
                r#"{"architectures":["RegNetModel"]}"#,
                "architectures",
                "RegNetModel",
            ),
            (
                r#"{"model_type":"resnet","hidden_act":"silu"}"#,
                "hidden_act",
                "hidden_act is \"silu\", expected relu",
            ),
            (
                r#"{"model_type":"resnet","downsample_in_bottleneck":true}"#,
                "downsample_in_bottleneck",
                "downsample_in_bottleneck is true",
            ),
            (
                r#"{"model_type":"resnet","downsample_in_first_stage":true}"#,
                "downsample_in_first_stage",
                "downsample_in_first_stage is true",
            ),
            (
                r#"{"model_type":"resnet","layer_type":"bottleneck"}"#,
                "layer_type",
                "expected basic",
            ),
            (
                r#"{"model_type":"resnet","depths":[3,4,6,3]}"#,
                "depths",
                "expected [2, 2, 2, 2]",
            ),
            (
                r#"{"model_type":"resnet","embedding_size":64}"#,
                "embedding_size",
                "expected 4",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"avg_down":true}}"#,
                "model_args.avg_down",
                "model_args.avg_down is true",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"aa_layer":"blurpool"}}"#,
                "model_args.aa_layer",
                "blurpool",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"act_layer":"silu"}}"#,
                "model_args.act_layer",
                "relu",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"act_layer":"gelu"}}"#,
                "model_args.act_layer",
                "relu",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"output_stride":8}}"#,
                "model_args.output_stride",
                "32",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"cardinality":32}}"#,
                "model_args.cardinality",
                "expected 1",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"norm_layer":"groupnorm"}}"#,
                "model_args.norm_layer",
                "groupnorm",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"block_args":{"attn_layer":"se"}}}"#,
                "model_args.block_args",
                "block_args is an object",
            ),
            (
                r#"{"architecture":"resnet18","model_args":{"replace_stem_pool":true}}"#,
                "model_args.replace_stem_pool",
                "true",
            ),
            (
                r#"{"architecture":"resnet18","global_pool":"max"}"#,
                "global_pool",
                "global_pool is \"max\"",
            ),
            (
                r#"{"architecture":"resnet18","global_pool":"avgmax"}"#,
                "global_pool",
                "avgmax",
            ),
            (
                r#"{"architecture":"resnet18","batch_norm_eps":1e-3}"#,
                "batch_norm_eps",
                "expected 1e-5",
            ),
        ],
    );
}

#[test]
fn a_configuration_of_the_same_residual_network_passes() {
    let folder = folder(&tensors(&resnet(), "", &[]));
    all_pass(
        &folder,
        &[
            "{}",
            r#"{"architecture":"resnet18","num_classes":0,"num_features":512,"global_pool":"avg","pretrained_cfg":
               {"tag":"a1_in1k","input_size":[3,64,64],"crop_pct":1.0,"first_conv":"conv1","pool_size":[7,7]}}"#,
            r#"{"architecture":"resnet18.a1_in1k","model_args":{"drop_path_rate":0.05,"zero_init_last":false,
               "stem_type":"","avg_down":false,"aa_layer":null,"block_args":{},"act_layer":"relu"}}"#,
            r#"{"architecture":"swsl_resnet18","label_names":["a","b"],"input_size":[3,64,64],"classifier":"fc"}"#,
            r#"{"architecture":"gluon_resnet18_v1b"}"#,
            r#"{"model_type":"resnet","architectures":["ResNetForImageClassification"],"depths":[2,2,2,2],
               "layer_type":"basic","hidden_act":"relu","embedding_size":4,"hidden_sizes":[4,8,16,32],
               "downsample_in_first_stage":false,"downsample_in_bottleneck":false,"num_channels":3,
               "id2label":{"0":"cat"},"torch_dtype":"float32","transformers_version":"4.40.0","problem_type":null}"#,
            r#"{"model_type":"timm_wrapper","architecture":"resnet18","architectures":["TimmWrapperModel"]}"#,
        ],
    );
}

#[test]
fn a_configuration_of_another_transformer_stops_the_load() {
    let folder = folder(&tensors(&vit(), "", &[]));
    all_stop(
        &folder,
        &[
            (
                r#"{"architecture":"vit_small_patch16_224"}"#,
                "architecture",
                "those of vit_tiny_patch16_224",
            ),
            (
                r#"{"architecture":"vit_tiny_patch8_224"}"#,
                "architecture",
                "vit_tiny_patch8_224",
            ),
            (
                r#"{"architecture":"vit_base_patch16_clip_quickgelu_224"}"#,
                "architecture",
                "quickgelu",
            ),
            (
                r#"{"architecture":"vit_small_patch16_rope_ape_224"}"#,
                "architecture",
                "rope_ape",
            ),
            (
                r#"{"architecture":"deit_tiny_distilled_patch16_224"}"#,
                "architecture",
                "distilled",
            ),
            (r#"{"model_type":"beit"}"#, "model_type", "beit"),
            (r#"{"model_type":"dinov3_vit"}"#, "model_type", "dinov3_vit"),
            (r#"{"model_type":"resnet"}"#, "model_type", "resnet"),
            (
                r#"{"model_type":"vit","hidden_act":"gelu_new"}"#,
                "hidden_act",
                "expected gelu",
            ),
            (
                r#"{"model_type":"vit","hidden_act":"quick_gelu"}"#,
                "hidden_act",
                "quick_gelu",
            ),
            (
                r#"{"model_type":"vit","hidden_act":"relu"}"#,
                "hidden_act",
                "relu",
            ),
            (
                r#"{"model_type":"vit","qkv_bias":false}"#,
                "qkv_bias",
                "expected true",
            ),
            (
                r#"{"model_type":"dinov2","use_swiglu_ffn":true}"#,
                "use_swiglu_ffn",
                "use_swiglu_ffn is true",
            ),
            (
                r#"{"model_type":"dinov2_with_registers","num_register_tokens":4}"#,
                "num_register_tokens",
                "expected 0",
            ),
            (
                r#"{"model_type":"vit","hidden_size":384}"#,
                "hidden_size",
                "expected 192",
            ),
            (
                r#"{"model_type":"vit","num_hidden_layers":6}"#,
                "num_hidden_layers",
                "expected 12",
            ),
            (
                r#"{"model_type":"vit","intermediate_size":512}"#,
                "intermediate_size",
                "expected 768",
            ),
            (
                r#"{"model_type":"vit","mlp_ratio":2}"#,
                "mlp_ratio",
                "expected 4",
            ),
            (
                r#"{"model_type":"vit","patch_size":14}"#,
                "patch_size",
                "expected 16x16",
            ),
            (
                r#"{"model_type":"vit","qk_norm":true}"#,
                "qk_norm",
                "qk_norm is true",
            ),
            (
                r#"{"model_type":"vit","use_relative_position_bias":true}"#,
                "use_relative_position_bias",
                "true",
            ),
            (
                r#"{"model_type":"vit","use_absolute_position_embeddings":false}"#,
                "use_absolute_position_embeddings",
                "false",
            ),
            (
                r#"{"model_type":"vit","rope_theta":100.0}"#,
                "rope_theta",
                "rope_theta is 100",
            ),
            (
                r#"{"model_type":"vit","position_embedding_type":"rotary"}"#,
                "position_embedding_type",
                "rotary",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","global_pool":"avg"}"#,
                "global_pool",
                "the class token",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"global_pool":"map"}}"#,
                "model_args.global_pool",
                "map",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"global_pool":true}}"#,
                "model_args.global_pool",
                "true",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"qk_norm":true}}"#,
                "model_args.qk_norm",
                "true",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"pre_norm":true}}"#,
                "model_args.pre_norm",
                "true",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"fc_norm":true}}"#,
                "model_args.fc_norm",
                "true",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"act_layer":"gelu_tanh"}}"#,
                "model_args.act_layer",
                "gelu_tanh",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"norm_layer":"rmsnorm"}}"#,
                "model_args.norm_layer",
                "rmsnorm",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"pos_embed":"rope"}}"#,
                "model_args.pos_embed",
                "rope",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"class_token":false}}"#,
                "model_args.class_token",
                "false",
            ),
            (
                r#"{"architecture":"vit_tiny_patch16_224","model_args":{"final_norm":false}}"#,
                "model_args.final_norm",
                "false",
            ),
        ],
    );
}

#[test]
fn a_configuration_of_the_same_transformer_passes() {
    let folder = folder(&tensors(&vit(), "", &[]));
    all_pass(
        &folder,
        &[
            "{}",
            r#"{"architecture":"vit_tiny_patch16_224.augreg_in21k","global_pool":"token","num_classes":0,"model_args":
               {"img_size":32,"patch_size":16,"num_heads":3,"drop_path_rate":0.1,"dynamic_img_size":true,
                "qk_norm":false,"init_values":null,"act_layer":"gelu","norm_layer":null,"weight_init":"moco"}}"#,
            r#"{"architecture":"deit_tiny_patch16_224"}"#,
            r#"{"model_type":"vit","architectures":["ViTModel"],"hidden_size":192,"num_hidden_layers":12,
               "num_attention_heads":3,"hidden_act":"gelu","layer_norm_eps":1e-12,"intermediate_size":768,
               "qkv_bias":true,"image_size":32,"patch_size":[16,16],"hidden_dropout_prob":0.1,
               "attention_probs_dropout_prob":0.1,"initializer_range":0.02,"encoder_stride":16,
               "pooler_act":"tanh","pooler_output_size":192,"pruned_heads":{}}"#,
            r#"{"model_type":"dinov2","num_attention_heads":3,"layerscale_value":1.0,"use_swiglu_ffn":false,
               "mlp_ratio":4,"drop_path_rate":0.0,"apply_layernorm":true,"out_indices":[12],"patch_size":16}"#,
            r#"{"model_type":"vit_mae","num_attention_heads":3,"mask_ratio":0.75,"decoder_hidden_size":512,
               "decoder_num_attention_heads":16,"norm_pix_loss":false}"#,
        ],
    );
}

#[test]
fn a_key_that_nobody_knows_is_reported_and_stops_nothing() {
    let folder = folder(&tensors(&resnet(), "", &[]));
    say(
        &folder,
        r#"{"architecture":"resnet18","colour_of_the_sky":"blue","model_args":{"magic":7}}"#,
    );
    let report = follow(folder.path(), &[]).unwrap();
    assert_eq!(
        report.not_looked_at,
        ["colour_of_the_sky", "model_args.magic"]
    );
    assert!(
        report
            .to_string()
            .contains("not looked at: colour_of_the_sky, model_args.magic")
    );
    let summary = Weights::open_file(folder.path()).unwrap().summary();
    assert_eq!(summary.not_looked_at, report.not_looked_at);
}

#[test]
fn tensors_of_the_trunk_that_nobody_uses_stop_the_load() {
    let se = [
        "layer1.0.se.fc1.weight",
        "layer1.0.se.fc1.bias",
        "layer3.1.se.fc1.weight",
    ];
    let beside = [
        "fc.weight",
        "projection_head.0.weight",
        "decoder.0.weight",
        "momentum_encoder.conv1.weight",
        "optimizer.lr",
        "bn1.num_batches_tracked",
    ];
    for prefix in ["", "state_dict.module.encoder_q."] {
        let named = |names: &[&str]| {
            names
                .iter()
                .map(|name| format!("{prefix}{name}"))
                .collect::<Vec<_>>()
        };
        let more = named(&[&se[..], &beside[..]].concat());
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let folder = folder(&tensors(&resnet(), prefix, &more));
        let error = follow(folder.path(), &[]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("3 tensors of its trunk have no place in the network"),
            "{text}"
        );
        assert!(
            text.contains(&format!("{prefix}layer1.0.se.fc1.bias")),
            "{text}"
        );
        assert_eq!(error.allowed_by().unwrap(), ["layer1.*", "layer3.*"]);
        let mut mismatches = Weights::open_file(folder.path())
            .unwrap()
            .summary()
            .mismatches;
        assert_eq!(mismatches.pop().unwrap().names, ["layer1.*", "layer3.*"]);
        // Part of them is not enough; by whole names, full or short, or by modules all are.
        assert!(follow(folder.path(), &["layer1.*"]).is_err());
        let full = format!("{prefix}layer3.1.se.fc1.weight");
        for allowed in [
            &["layer1.*", "layer3.*"][..],
            &["layer1.0.se.*", &full],
            &["layer1.0.*", se[2]],
        ] {
            let report = follow(folder.path(), allowed).unwrap();
            assert_eq!(report.unexpected.len(), 3);
        }
        let error = follow(folder.path(), &["layer9.*"]).unwrap_err();
        assert!(matches!(error, Error::AllowMismatch { .. }), "{error}");
        assert!(error.to_string().contains("layer9.*"), "{error}");
    }
    for name in [
        "blocks.0.attn.q_norm.weight",
        "blocks.11.attn.relative_position_bias_table",
        "blocks.3.gamma_1",
        "norm_pre.weight",
        "fc_norm.weight",
        "dist_token",
        "rope.freqs",
        "patch_embed.norm.weight",
        "attn_pool.latent",
    ] {
        let folder = folder(&tensors(&vit(), "", &[name]));
        let text = follow(folder.path(), &[]).unwrap_err().to_string();
        assert!(
            text.contains(&format!("the tensor {name} of its trunk")),
            "{text}"
        );
    }
}

#[test]
fn heads_and_epsilon_follow_what_the_source_says() {
    let bare = folder(&tensors(&vit(), "", &[]));
    let told = |config: &str| {
        say(&bare, config);
        let encoder = Weights::open_file(bare.path()).unwrap().encoder().unwrap();
        let report = follow(bare.path(), &[]).unwrap_or_else(|error| panic!("{config}: {error}"));
        let assumed = report.notes.iter().any(|note| note.contains("are assumed"));
        (encoder.heads, encoder.norm_eps, assumed)
    };
    for (config, expected) in [
        ("{}", (None, None, true)),
        (
            r#"{"architecture":"vit_tiny_patch16_224"}"#,
            (None, None, false),
        ),
        (
            r#"{"architecture":"vit_tiny_patch16_224","model_args":{"num_heads":12}}"#,
            (Some(12), None, false),
        ),
        (
            r#"{"model_type":"vit","num_attention_heads":3,"layer_norm_eps":1e-6}"#,
            (None, None, false),
        ),
        (
            r#"{"model_type":"vit","num_attention_heads":6,"layer_norm_eps":1e-12}"#,
            (Some(6), Some(1e-12), false),
        ),
        // transformers' own defaults, where a configuration was cut short
        (r#"{"model_type":"vit"}"#, (Some(12), Some(1e-12), false)),
        (
            r#"{"model_type":"dinov2","num_attention_heads":3}"#,
            (None, None, false),
        ),
        (
            r#"{"model_type":"vit_msn","num_attention_heads":3,"layer_norm_eps":1e-5}"#,
            (None, Some(1e-5), false),
        ),
    ] {
        assert_eq!(told(config), expected, "{config}");
    }
    // A network of other heads than the source says is not the one that was trained.
    say(
        &bare,
        r#"{"model_type":"vit","num_attention_heads":6,"layer_norm_eps":1e-5}"#,
    );
    let weights = Weights::open_file(bare.path()).unwrap();
    let error = into(&vit(), &weights, &[]).unwrap_err();
    assert_eq!(
        error.allowed_by().unwrap(),
        ["num_attention_heads", "layer_norm_eps"]
    );
    let text = error.to_string();
    assert!(
        text.contains("3 heads of attention, and 6 by num_attention_heads of config.json"),
        "{text}"
    );
    assert!(
        text.contains("an epsilon of 1e-6, and of 1e-5 by layer_norm_eps"),
        "{text}"
    );
    into(&vit(), &weights, &["heads", "norm_eps"]).unwrap();
    // Without a description of the network the published number of heads is assumed.
    let error = load(&variables(&vit()), &weights, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    for (config, said) in [
        (
            r#"{"model_type":"vit","num_attention_heads":0}"#,
            "num_attention_heads is 0",
        ),
        (
            r#"{"model_type":"vit","num_attention_heads":"six"}"#,
            "expected a number of heads",
        ),
        (
            r#"{"model_type":"vit","num_attention_heads":3,"layer_norm_eps":-1}"#,
            "layer_norm_eps is -1",
        ),
        (r#"{"architecture":7}"#, "7"),
        (r#"{"model_type":7}"#, "model_type is 7, expected a name"),
        (
            r#"{"architecture":"resnet18","architecture":"resnet50"}"#,
            "architecture",
        ),
        (
            r#"{"qk_norm":false,"qk_norm":true}"#,
            "the key \"qk_norm\" stands twice",
        ),
        (r#"{"model_args":[1]}"#, "expected an object"),
    ] {
        say(&bare, config);
        let error = Weights::open_file(bare.path()).and_then(|weights| into(&vit(), &weights, &[]));
        let error = error.expect_err(config);
        assert!(matches!(error, Error::Json { .. }), "{config}: {error}");
        assert!(error.to_string().contains(said), "{config}: {error}");
    }
}

#[test]
fn heads_are_those_of_whoever_named_the_tensors() {
    let fixed = EncoderConfig {
        positions: Positions::Sincos,
        ..vit()
    };
    let heads = |encoder: &EncoderConfig, prefix: &str| {
        let folder = folder(&tensors(encoder, prefix, &[]));
        let weights = Weights::open_file(folder.path()).unwrap();
        weights.encoder().unwrap().heads
    };
    assert_eq!(heads(&vit(), "state_dict.module.base_encoder."), Some(12));
    assert_eq!(heads(&vit(), "teacher.backbone."), None);
    assert_eq!(heads(&vit(), "backbone."), None);
    // solo-learn's MoCo v3, and a file that lost its names: the fixed positions tell.
    assert_eq!(heads(&fixed, "state_dict.backbone."), Some(12));
    assert_eq!(heads(&fixed, ""), Some(12));
}

#[test]
fn exports_load_back_without_complaint_and_as_the_network_that_they_were() {
    let plain = Preprocessing {
        size: [32, 32],
        ..Preprocessing::imagenet()
    };
    let small = EncoderConfig {
        stem: Stem::Small,
        ..resnet()
    };
    let moco = EncoderConfig {
        heads: Some(12),
        positions: Positions::Sincos,
        initialisation: Initialisation::Xavier,
        ..vit()
    };
    let eps = EncoderConfig {
        heads: Some(6),
        norm_eps: Some(1e-12),
        ..vit()
    };
    for (encoder, format) in [
        (resnet(), Format::Timm),
        (resnet(), Format::Transformers),
        (small, Format::Timm),
        (vit(), Format::Timm),
        (vit(), Format::Transformers),
        (moco.clone(), Format::Timm),
        (moco, Format::Transformers),
        (eps.clone(), Format::Timm),
        (eps, Format::Transformers),
    ] {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("export");
        let export = Export::new(format, &encoder, &variables(&encoder), &plain).unwrap();
        export.save(&directory, "", Overwrite::Never).unwrap();
        let weights = Weights::open_file(&directory).unwrap();
        let found = weights.encoder().unwrap();
        assert_eq!(
            (found.heads, found.norm_eps),
            (encoder.heads, encoder.norm_eps),
            "{format:?} {encoder:?}"
        );
        let report = into(&encoder, &weights, &[])
            .unwrap_or_else(|error| panic!("{format:?} {encoder:?}: {error}"));
        let report = report.strict().unwrap();
        let heads = |note: &String| note.contains("heads of attention, by fgvr.encoder.heads");
        assert!(report.notes.iter().all(heads), "{:?}", report.notes);
        assert_eq!(report.notes.len(), usize::from(encoder.heads.is_some()));
        assert!(
            report.not_looked_at.is_empty(),
            "{:?}",
            report.not_looked_at
        );
        let config = export.config();
        match (encoder.architecture.is_vit(), format) {
            (true, Format::Timm) => assert_eq!(
                config["model_args"]["num_heads"],
                encoder.heads.unwrap_or(3)
            ),
            (true, Format::Transformers) => {
                assert_eq!(config["num_attention_heads"], encoder.heads.unwrap_or(3));
                assert_eq!(config["layer_norm_eps"], encoder.norm_eps.unwrap_or(1e-6));
            }
            _ => {}
        }
    }
    // timm cannot be told of an epsilon that changes features.
    let wide = EncoderConfig {
        norm_eps: Some(1e-5),
        ..vit()
    };
    let export = Export::new(Format::Timm, &wide, &variables(&wide), &plain).unwrap();
    assert!(
        export.obstacle().unwrap().contains("1e-5"),
        "{:?}",
        export.obstacle()
    );
    assert!(export.config().get("architecture").is_none());
}

#[test]
fn a_small_stem_of_unknown_stride_stops_the_load() {
    let small = EncoderConfig {
        stem: Stem::Small,
        ..resnet()
    };
    let folder = folder(&tensors(&small, "", &[]));
    let error = follow(folder.path(), &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("conv1 is 3x3, and nothing says with which stride"),
        "{error}"
    );
    assert_eq!(error.allowed_by().unwrap(), ["stem"]);
    follow(folder.path(), &["stem"]).unwrap();
}
