//! transformers' names and `config.json`.

use std::collections::BTreeMap;

use candle_core::{Result as CandleResult, Tensor};
use serde_json::{Value, json};

use crate::config::BlockKind;
use crate::{Error, NetworkConfig, Pooling, ResNetConfig, Stem, VitConfig};

/// `config.json` of the class that has the network.
///
/// # Errors
/// [`Error::Export`] where there is none.
pub(super) fn config(network: &NetworkConfig) -> Result<Value, Error> {
    match network {
        NetworkConfig::ResNet(config) => resnet_config(config),
        NetworkConfig::EfficientNet(_) => Err(no_efficientnet()),
        NetworkConfig::Vit(config) => Ok(vit_config(config)),
    }
}

fn no_efficientnet() -> Error {
    Error::Export {
        problem: "transformers has no EfficientNet-Lite: its EfficientNetModel has squeeze-and-excitation and SiLU; \
                  export with --format timm"
            .to_owned(),
    }
}

fn resnet_config(config: &ResNetConfig) -> Result<Value, Error> {
    let problem = |what: String| Error::Export {
        problem: format!("transformers' ResNetModel has no {what}; export with --format timm"),
    };
    if config.stem == Stem::Small {
        return Err(problem("small stem".to_owned()));
    }
    if config.base_width != 64 {
        return Err(problem(format!(
            "bottlenecks of base width {}",
            config.base_width
        )));
    }
    let (kind, depths) = config.layout()?;
    let (bottleneck, expansion) = (kind == BlockKind::Bottleneck, kind.expansion());
    let sizes: Vec<usize> = (0..4)
        .map(|stage| (config.width << stage) * expansion)
        .collect();
    Ok(json!({
        "architectures": ["ResNetModel"],
        "model_type": "resnet",
        "num_channels": 3,
        "embedding_size": config.width,
        "hidden_sizes": sizes,
        "depths": depths,
        "layer_type": if bottleneck { "bottleneck" } else { "basic" },
        "hidden_act": "relu",
        "downsample_in_first_stage": false,
        "downsample_in_bottleneck": false,
        "dtype": "float32",
    }))
}

fn vit_config(config: &VitConfig) -> Value {
    let mut json = json!({
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.norm_eps,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "qkv_bias": true,
        "dtype": "float32",
    });
    let (class, kind) = match (config.layer_scale.is_some(), config.registers) {
        (true, 0) => ("Dinov2Model", "dinov2"),
        (_, registers) if registers > 0 => {
            json["num_register_tokens"] = json!(registers);
            ("Dinov2WithRegistersModel", "dinov2_with_registers")
        }
        _ => ("ViTModel", "vit"),
    };
    if kind == "vit" {
        json["intermediate_size"] = json!(config.mlp_ratio * config.width);
    } else {
        json["mlp_ratio"] = json!(config.mlp_ratio);
        json["layerscale_value"] = json!(1.0);
        json["use_swiglu_ffn"] = json!(false);
        json["drop_path_rate"] = json!(0.0);
        json["use_mask_token"] = json!(true);
    }
    json["architectures"] = json!([class]);
    json["model_type"] = json!(kind);
    json
}

/// Where a classifier goes in transformers' network.
pub(super) struct Classifier {
    /// What stands before the names of the trunk then.
    pub(super) prefix: &'static str,
    /// The linear layer.
    pub(super) layer: &'static str,
    pub(super) input: Input,
}

/// What the layer sees.
pub(super) enum Input {
    /// The features.
    Features,
    /// The class token and the mean of the patches, of which the features are the first or the second.
    Both {
        /// Whether they are the second.
        second: bool,
    },
}

impl Input {
    /// Where the layer sees both, and features are pooled so.
    fn both(pooling: Pooling) -> Self {
        match pooling {
            Pooling::ClassToken => Self::Both { second: false },
            Pooling::PatchMean => Self::Both { second: true },
            Pooling::Both => Self::Features,
        }
    }
}

/// Makes `config` that of the class with a classifier of `outputs`.
///
/// # Errors
/// [`Error::Export`] where there is no such class.
pub(super) fn classify(
    config: &mut Value,
    network: &NetworkConfig,
    outputs: usize,
) -> Result<Classifier, Error> {
    let classifier = |prefix, layer, input| Classifier {
        prefix,
        layer,
        input,
    };
    let (class, found) = match network {
        NetworkConfig::ResNet(_) => (
            "ResNetForImageClassification",
            classifier("resnet.", "classifier.1", Input::Features),
        ),
        NetworkConfig::EfficientNet(_) => return Err(no_efficientnet()),
        NetworkConfig::Vit(vit) => match (vit.layer_scale.is_some(), vit.registers) {
            (true, 0) => (
                "Dinov2ForImageClassification",
                classifier("dinov2.", "classifier", Input::both(vit.pooling)),
            ),
            (_, registers) if registers > 0 => (
                "Dinov2WithRegistersForImageClassification",
                classifier(
                    "dinov2_with_registers.",
                    "classifier",
                    Input::both(vit.pooling),
                ),
            ),
            _ if vit.pooling != Pooling::ClassToken => {
                return Err(Error::Export {
                    problem: format!(
                        "transformers' ViTForImageClassification has its classifier behind the class token, and these \
                         features are of the pooling {:?}; export with --format timm",
                        vit.pooling.name()
                    ),
                });
            }
            _ => (
                "ViTForImageClassification",
                classifier("vit.", "classifier", Input::Features),
            ),
        },
    };
    config["architectures"] = json!([class]);
    config["num_labels"] = json!(outputs);
    Ok(found)
}

/// The tensors under transformers' names.
///
/// # Errors
/// A tensor that is not f32.
pub(super) fn tensors(
    network: &NetworkConfig,
    values: BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let mut renamed = BTreeMap::new();
    for (name, tensor) in values {
        let wrap = |source| Error::Tensor {
            name: name.clone(),
            source,
        };
        match network {
            NetworkConfig::ResNet(_) => {
                renamed.insert(resnet_name(&name), tensor);
            }
            NetworkConfig::EfficientNet(_) => return Err(no_efficientnet()),
            NetworkConfig::Vit(config) => {
                renamed.extend(vit_tensors(config, &name, tensor).map_err(wrap)?);
            }
        }
    }
    Ok(renamed)
}

/// `layer2.0.conv1.weight` is `encoder.stages.1.layers.0.layer.0.convolution.weight`, and so on.
fn resnet_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let stage = |layer: &str| {
        let number: usize = layer
            .strip_prefix("layer")
            .and_then(|n| n.parse().ok())
            .unwrap_or(1);
        number - 1
    };
    // conv1 is layer 0 of a block and convolution; bn1 its normalisation
    let place = |module: &str| -> Option<(usize, &'static str)> {
        let (kind, number) = match module.strip_prefix("conv") {
            Some(number) => ("convolution", number),
            None => ("normalization", module.strip_prefix("bn")?),
        };
        Some((number.parse::<usize>().ok()?.checked_sub(1)?, kind))
    };
    match parts.as_slice() {
        ["conv1", rest] => format!("embedder.embedder.convolution.{rest}"),
        ["bn1", rest] => format!("embedder.embedder.normalization.{rest}"),
        [layer, block, "downsample", which, rest] => {
            let kind = if *which == "0" {
                "convolution"
            } else {
                "normalization"
            };
            format!(
                "encoder.stages.{}.layers.{block}.shortcut.{kind}.{rest}",
                stage(layer)
            )
        }
        [layer, block, module, rest] => match place(module) {
            Some((index, kind)) => format!(
                "encoder.stages.{}.layers.{block}.layer.{index}.{kind}.{rest}",
                stage(layer)
            ),
            None => name.to_owned(),
        },
        _ => name.to_owned(),
    }
}

/// One of our tensors as transformers has it: queries, keys and values apart.
fn vit_tensors(
    config: &VitConfig,
    name: &str,
    tensor: Tensor,
) -> CandleResult<Vec<(String, Tensor)>> {
    let dino = config.layer_scale.is_some() || config.registers > 0;
    let one = |name: &str, tensor: Tensor| Ok(vec![(name.to_owned(), tensor)]);
    match name {
        "cls_token" => {
            let mut tensors = vec![("embeddings.cls_token".to_owned(), tensor)];
            if dino {
                // Used in pre-training alone, and expected in the file.
                let mask = tensors[0].1.zeros_like()?.squeeze(0)?;
                tensors.push(("embeddings.mask_token".to_owned(), mask));
            }
            Ok(tensors)
        }
        "reg_token" => one("embeddings.register_tokens", tensor),
        "pos_embed" if config.registers > 0 => {
            // (1, N, C) -> (1, 1 + N, C): transformers adds one to the class token, too
            let class = tensor.narrow(1, 0, 1)?.zeros_like()?;
            one(
                "embeddings.position_embeddings",
                Tensor::cat(&[&class, &tensor], 1)?,
            )
        }
        "pos_embed" => one("embeddings.position_embeddings", tensor),
        _ => {
            if let Some(rest) = name.strip_prefix("patch_embed.proj.") {
                return one(
                    &format!("embeddings.patch_embeddings.projection.{rest}"),
                    tensor,
                );
            }
            if let Some(rest) = name.strip_prefix("norm.") {
                return one(&format!("layernorm.{rest}"), tensor);
            }
            let Some((block, rest)) = name
                .strip_prefix("blocks.")
                .and_then(|rest| rest.split_once('.'))
            else {
                candle_core::bail!("export: {name} has no place among transformers' names");
            };
            block_tensors(dino, block, rest, tensor)
        }
    }
}

fn block_tensors(
    dino: bool,
    block: &str,
    rest: &str,
    tensor: Tensor,
) -> CandleResult<Vec<(String, Tensor)>> {
    let layer = format!("encoder.layer.{block}");
    if let Some(kind) = rest.strip_prefix("attn.qkv.") {
        // (3C, ..) -> three of (C, ..)
        let channels = tensor.dim(0)? / 3;
        let parts = ["query", "key", "value"].iter().enumerate();
        return parts
            .map(|(i, part)| {
                let name = format!("{layer}.attention.attention.{part}.{kind}");
                let part = tensor.narrow(0, i * channels, channels)?.contiguous()?;
                Ok((name, part))
            })
            .collect();
    }
    let (module, kind) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let module = match (module, dino) {
        ("attn.proj", _) => "attention.output.dense".to_owned(),
        ("norm1", false) => "layernorm_before".to_owned(),
        ("norm2", false) => "layernorm_after".to_owned(),
        ("mlp.fc1", false) => "intermediate.dense".to_owned(),
        ("mlp.fc2", false) => "output.dense".to_owned(),
        ("ls1", true) => return Ok(vec![(format!("{layer}.layer_scale1.lambda1"), tensor)]),
        ("ls2", true) => return Ok(vec![(format!("{layer}.layer_scale2.lambda1"), tensor)]),
        (same, _) => same.to_owned(),
    };
    Ok(vec![(format!("{layer}.{module}.{kind}"), tensor)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residual_names_become_transformers() {
        for (ours, theirs) in [
            ("conv1.weight", "embedder.embedder.convolution.weight"),
            (
                "bn1.running_mean",
                "embedder.embedder.normalization.running_mean",
            ),
            (
                "layer2.1.conv3.weight",
                "encoder.stages.1.layers.1.layer.2.convolution.weight",
            ),
            (
                "layer4.0.downsample.1.bias",
                "encoder.stages.3.layers.0.shortcut.normalization.bias",
            ),
        ] {
            assert_eq!(resnet_name(ours), theirs);
        }
    }
}
