//! The keys of a `config.json` that change what a network computes, and those that do not.
//!
//! The keys are those of timm's `create_model`, of transformers' configurations of ViT, DINOv2 and ResNet, and
//! of relatives of these networks that have the same tensors. What is on neither list is reported as not looked
//! at.

mod lists;

use super::found::FoundArchitecture;
use super::setting::Setting;
use crate::EfficientNetConfig;
use crate::efficientnet::{Padding, STEM};
use crate::vit::Pooling;
use lists::{OFF, ON, is_harmless};

/// The heads of attention, under the names they are given.
pub(crate) const HEADS: &[&str] = &["num_attention_heads", "num_heads", "n_heads", "nhead"];

/// The epsilon of the layer norms.
pub(crate) const NORM_EPS: &[&str] = &["layer_norm_eps", "layernorm_eps", "norm_eps", "ln_eps"];

/// What can be compared with a configuration.
pub(crate) struct Built<'a> {
    pub(crate) found: &'a FoundArchitecture,
    /// Channels inside a transformer's perceptron.
    pub(crate) inside: Option<usize>,
    /// What a transformer's features are.
    pub(crate) pooling: Pooling,
    /// The EfficientNet-Lite that is built.
    pub(crate) lite: Option<&'a EfficientNetConfig>,
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
    let lite = matches!(built.found, FoundArchitecture::EfficientNetLite { .. });
    match key {
        "in_chans" | "num_channels" => return count(3),
        // Standardised weights, a padding that depends on the size and the like are norms or layers by name.
        "conv_layer" => return is(value.is_off(), "none"),
        "pad_type" | "padding" if !lite => return is(value.is_off(), "none"),
        _ => {}
    }
    match built.found {
        FoundArchitecture::EfficientNetLite { .. } => efficientnet(key, value, built.lite),
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
            key => vit(key, value, built.pooling),
        },
    }
}

/// What names leave open in a vision transformer of known sizes.
fn vit(key: &str, value: &Setting, pooling: Pooling) -> Verdict {
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
        // The class token is looked at; without pooling that is what it is, too. Another pooling is asked for by name,
        // here or there.
        "global_pool" | "pool_type" | "pooling" | "pooling_type" => is(
            value.is_off()
                || matches!(text.as_str(), "token" | "cls" | "cls_token")
                || text == "avg" && pooling != Pooling::ClassToken,
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

/// What names and shapes leave open in an EfficientNet-Lite, built as `lite` says where that is known.
fn efficientnet(key: &str, value: &Setting, lite: Option<&EfficientNetConfig>) -> Verdict {
    let text = value.text().unwrap_or_default().to_ascii_lowercase();
    match key {
        "pad_type" | "padding" => match lite.map(|config| config.padding) {
            Some(Padding::Same) => is(text == "same", "same"),
            Some(Padding::Symmetric) => is(value.is_off(), "none"),
            None => Verdict::Fits,
        },
        "bn_eps" | "batch_norm_eps" => match lite.map(|config| config.norm_eps) {
            Some(eps) => is(value.number() == Some(eps), format!("{eps:e}")),
            None => Verdict::Fits,
        },
        "act_layer" | "hidden_act" | "activation" => is(text == "relu6", "relu6"),
        "norm_layer" | "norm_type" => is(
            matches!(text.as_str(), "batchnorm2d" | "batchnorm" | "bn"),
            "batchnorm2d",
        ),
        "global_pool" | "pool_type" | "pooling" => {
            let mean = value.is_off() || matches!(text.as_str(), "avg" | "fast" | "fastavg");
            is(mean, "avg (the mean over places)")
        }
        "se_layer" => is(value.is_off(), "none"),
        "fix_stem" => is(*value == Setting::Bool(true), "true"),
        "stem_size" => is(value.count() == Some(STEM), STEM),
        "output_stride" => is(value.count() == Some(32), 32),
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
