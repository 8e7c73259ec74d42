//! The keys of a `config.json` that change what a network computes, and those that do not.
//!
//! The keys are those of timm's `create_model`, of transformers' configurations of ViT, DINOv2 and ResNet, and
//! of relatives of these networks that have the same tensors. What is on neither list is reported as not looked
//! at.

use super::found::FoundArchitecture;
use super::setting::Setting;

/// The heads of attention, under the names they are given.
pub(crate) const HEADS: &[&str] = &["num_attention_heads", "num_heads", "n_heads", "nhead"];

/// The epsilon of the layer norms.
pub(crate) const NORM_EPS: &[&str] = &["layer_norm_eps", "layernorm_eps", "norm_eps", "ln_eps"];

/// What can be compared with a configuration.
pub(crate) struct Built<'a> {
    pub(crate) found: &'a FoundArchitecture,
    /// Channels inside a transformer's perceptron.
    pub(crate) inside: Option<usize>,
}

/// What a key comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The network is as it says, or it says nothing of what a network computes.
    Fits,
    /// The network is not as it says, but so.
    Differs(String),
    /// Not known here.
    Unknown,
}

/// Looks at `value` of `key`, a key without the path before it.
pub(crate) fn judge(key: &str, value: &Setting, built: &Built<'_>) -> Verdict {
    if *value == Setting::Null || is_harmless(key) {
        return Verdict::Fits;
    }
    // Compared where the settings of the network are known.
    if HEADS.contains(&key) || NORM_EPS.contains(&key) {
        return Verdict::Fits;
    }
    // A string says `false` of nothing.
    if OFF.contains(&key) {
        return is(
            value.is_off() || *value == Setting::Text("none".into()),
            "none",
        );
    }
    if ON.contains(&key) {
        return is(*value == Setting::Bool(true), "true");
    }
    let count = |expected: usize| is(value.count() == Some(expected), expected);
    match key {
        "in_chans" | "num_channels" => return count(3),
        // Standardised weights, a padding that depends on the size and the like are norms or layers by name.
        "conv_layer" | "pad_type" | "padding" => return is(value.is_off(), "none"),
        _ => {}
    }
    match built.found {
        FoundArchitecture::ResNet {
            blocks,
            bottleneck,
            width,
            inner,
        } => resnet(key, value, (blocks, *bottleneck), (*width, *inner)),
        FoundArchitecture::Vit {
            width,
            depth,
            patch,
            registers,
            ..
        } => match key {
            "hidden_size" | "embed_dim" => count(*width),
            "num_hidden_layers" | "depth" | "num_layers" => count(*depth),
            "num_register_tokens" | "reg_tokens" | "num_reg_tokens" => count(*registers),
            "patch_size" => is(
                value.counts(2).as_deref() == Some(patch),
                format!("{}x{}", patch[0], patch[1]),
            ),
            "intermediate_size" | "mlp_dim" => match built.inside {
                Some(inside) => count(inside),
                None => Verdict::Fits,
            },
            "mlp_ratio" => match (built.inside, value.number()) {
                (Some(inside), Some(ratio)) => {
                    let wide = (ratio * *width as f64) as usize == inside;
                    is(wide, inside as f64 / *width as f64)
                }
                (None, Some(_)) => Verdict::Fits,
                _ => Verdict::Differs("a number".to_owned()),
            },
            key => vit(key, value),
        },
    }
}

/// What names leave open in a vision transformer of known sizes.
fn vit(key: &str, value: &Setting) -> Verdict {
    let text = value.text().unwrap_or_default().to_ascii_lowercase();
    match key {
        "hidden_act" | "act_layer" | "hidden_activation" | "activation" | "activation_function" => {
            // GELU by its error function; tanh and sigmoid approximate it.
            is(matches!(text.as_str(), "gelu" | "gelu_python"), "gelu")
        }
        "norm_layer" | "norm_type" => is(
            matches!(text.as_str(), "layernorm" | "layer_norm" | "ln"),
            "layernorm",
        ),
        // The class token is looked at; without pooling that is what it is, too.
        "global_pool" | "pool_type" | "pooling" | "pooling_type" => is(
            value.is_off() || matches!(text.as_str(), "token" | "cls" | "cls_token"),
            "token (the class token)",
        ),
        "pos_embed" | "position_embedding_type" | "pos_embed_type" => is(
            matches!(
                text.as_str(),
                "learn" | "learned" | "learnable" | "absolute" | "sincos"
            ),
            "learn (a position embedding that is added)",
        ),
        "attn_type" => is(value.is_off() || text == "standard", "standard"),
        // A batch norm that a transformer has not.
        "bn_eps" | "batch_norm_eps" => Verdict::Fits,
        _ => Verdict::Unknown,
    }
}

/// What names and shapes leave open in a residual network.
fn resnet(
    key: &str,
    value: &Setting,
    (blocks, bottleneck): (&[usize; 4], bool),
    (width, inner): (usize, usize),
) -> Verdict {
    let text = value.text().unwrap_or_default().to_ascii_lowercase();
    let count = |expected: usize| is(value.count() == Some(expected), expected);
    let widths = |expansion: usize| [1, 2, 4, 8].map(|times| times * width * expansion);
    match key {
        "depths" | "layers" => is(
            value.counts(4).as_deref() == Some(blocks),
            format!("{blocks:?}"),
        ),
        "embedding_size" => count(width),
        "hidden_sizes" => {
            let expected = widths(if bottleneck { 4 } else { 1 });
            is(
                value.counts(4).as_deref() == Some(&expected),
                format!("{expected:?}"),
            )
        }
        "channels" => {
            let expected = widths(1);
            is(
                value.counts(4).as_deref() == Some(&expected),
                format!("{expected:?}"),
            )
        }
        "layer_type" | "block" => {
            let expected = if bottleneck { "bottleneck" } else { "basic" };
            is(text.trim_end_matches("block") == expected, expected)
        }
        "base_width" | "width_per_group" => count(64 * inner / width.max(1)),
        "cardinality" | "groups" | "dilation" | "block_reduce_first" | "down_kernel_size" => {
            count(1)
        }
        "output_stride" => count(32),
        "hidden_act" | "act_layer" | "activation" | "activation_function" => {
            is(text == "relu", "relu")
        }
        "norm_layer" | "norm_type" => is(
            matches!(text.as_str(), "batchnorm2d" | "batchnorm" | "bn"),
            "batchnorm2d",
        ),
        "bn_eps" | "batch_norm_eps" => is(value.number() == Some(1e-5), "1e-5"),
        "global_pool" | "pool_type" | "pooling" | "pooling_type" => {
            // Without pooling it is left to the reader, who takes the mean here.
            let mean = value.is_off() || matches!(text.as_str(), "avg" | "fast" | "fastavg");
            is(mean, "avg (the mean over places)")
        }
        "replace_stride_with_dilation" => is(
            !matches!(value, Setting::Bool(true) | Setting::Texts(_)),
            "none",
        ),
        _ => Verdict::Unknown,
    }
}

fn is(fits: bool, expected: impl ToString) -> Verdict {
    match fits {
        true => Verdict::Fits,
        false => Verdict::Differs(expected.to_string()),
    }
}

/// Parts that no network of this crate has.
const OFF: &[&str] = &[
    // vision transformers
    "qk_norm",
    "use_qk_norm",
    "qk_layernorm",
    "scale_attn_norm",
    "scale_mlp_norm",
    "scale_attn_inner",
    "scale_mlp",
    "pre_norm",
    "use_pre_transformer_norm",
    "fc_norm",
    "use_fc_norm",
    "post_norm",
    "use_swiglu_ffn",
    "swiglu_mlp",
    "swiglu_align_to",
    "use_gated_mlp",
    "gated_mlp",
    "embed_layer",
    "embed_norm_layer",
    "mlp_layer",
    "attn_layer",
    "block_fn",
    "use_rot_pos_emb",
    "use_rope",
    "rope",
    "rope_type",
    "rope_theta",
    "rope_temperature",
    "rope_parameters",
    "rope_scaling",
    "rope_mixed_mode",
    "rotary",
    "use_rel_pos",
    "use_rel_pos_bias",
    "use_shared_rel_pos_bias",
    "use_relative_position_bias",
    "use_shared_relative_position_bias",
    "use_relative_position_embeddings",
    "rel_pos_type",
    "rel_pos_dim",
    "shared_rel_pos",
    "window_size",
    "window_block_indexes",
    "global_attn_indexes",
    "num_windows",
    "use_mean_pooling",
    "attn_pool",
    "attn_pool_num_heads",
    "use_attn_pool",
    "pruned_heads",
    "parallel_attn",
    "hybrid_backbone",
    "backbone_config",
    // residual networks
    "aa_layer",
    "avg_down",
    "stem_type",
    "replace_stem_pool",
    "block_args",
    "attn_kwargs",
    "downsample_in_first_stage",
    "downsample_in_bottleneck",
    "deep_stem",
    "avg_pool_downsample",
];

/// Parts that all networks of this crate have.
const ON: &[&str] = &[
    "qkv_bias",
    "proj_bias",
    "attention_bias",
    "mlp_bias",
    "query_bias",
    "key_bias",
    "value_bias",
    "qkv_fused",
    "class_token",
    "use_cls_token",
    "use_class_token",
    "final_norm",
    "use_post_transformer_norm",
    "use_abs_pos_emb",
    "use_absolute_position_embeddings",
    "use_absolute_embeddings",
];

/// Whether a key says nothing of what a trained network computes of an image, or nothing that its tensors do not
/// show: its training, its classifier, its images, the file.
fn is_harmless(key: &str) -> bool {
    const PARTS: &[&str] = &[
        "drop", "init", "loss", "label", "decoder_", "mask_", "torch", "beam",
    ];
    PARTS.iter().any(|part| key.contains(part)) || HARMLESS.contains(&key)
}

const HARMLESS: &[&str] = &[
    // timm
    "num_classes",
    "num_features",
    "head_hidden_size",
    "img_size",
    "dynamic_img_size",
    "dynamic_img_pad",
    "strict_img_size",
    "no_embed_class",
    "pool_include_prefix",
    "classifier",
    "stem_width",
    "zero_init_last",
    "zero_init_residual",
    "bn_momentum",
    "device",
    "dtype",
    "scriptable",
    "exportable",
    "features_only",
    "out_indices",
    "checkpoint_path",
    "cache_dir",
    "pretrained",
    "hf_hub_id",
    "tag",
    "url",
    "file",
    "license",
    "notes",
    "custom_load",
    "input_size",
    "test_input_size",
    "min_input_size",
    "fixed_input_size",
    "interpolation",
    "crop_pct",
    "test_crop_pct",
    "crop_mode",
    "mean",
    "std",
    "pool_size",
    "test_pool_size",
    "first_conv",
    "origin_url",
    "paper_name",
    "paper_ids",
    "architecture",
    // transformers
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "auto_map",
    "library_name",
    "image_size",
    "encoder_stride",
    "pooler_act",
    "pooler_output_size",
    "add_pooling_layer",
    "layerscale_value",
    "apply_layernorm",
    "reshape_hidden_states",
    "use_mask_token",
    "norm_pix_loss",
    "out_features",
    "stage_names",
    "problem_type",
    "finetuning_task",
    "task_specific_params",
    "is_encoder_decoder",
    "is_decoder",
    "add_cross_attention",
    "tie_word_embeddings",
    "tie_encoder_decoder",
    "cross_attention_hidden_size",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "return_dict_in_generate",
    "use_cache",
    "use_bfloat16",
    "chunk_size_feed_forward",
    "gradient_checkpointing",
    "semantic_loss_ignore_index",
    "do_pooling",
    "_attn_implementation",
    "attn_implementation",
    "_attn_implementation_autoset",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "prefix",
    "_out_features",
    "_out_indices",
];
