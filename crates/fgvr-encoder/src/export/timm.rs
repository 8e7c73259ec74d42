//! timm's `config.json`; its names are ours.

use serde_json::{Value, json};

use super::decimals;
use crate::weights::{Preprocessing, Resize};
use crate::{EncoderConfig, NetworkConfig, Pooling, Stem, VitConfig};

/// `config.json`, and why timm cannot build the network from it, if so.
pub(super) fn config(
    encoder: &EncoderConfig,
    network: &NetworkConfig,
    view: &Preprocessing,
) -> (Value, Option<String>) {
    let (built, obstacle) = match network {
        NetworkConfig::ResNet(config) => match (config.stem, config.width) {
            (Stem::ImageNet, 64) => (resnet(encoder), None),
            (Stem::Small, 64) => (
                None,
                Some(
                    "timm and torchvision have no residual network with the small stem \
                     (a 3x3 convolution of stride 2, no max-pool)"
                        .to_owned(),
                ),
            ),
            (_, width) => (
                None,
                Some(format!(
                    "timm and torchvision have no residual network of {width} base channels"
                )),
            ),
        },
        // Padding and epsilon follow from the name.
        NetworkConfig::EfficientNet(_) => (
            Some(Built {
                architecture: encoder.architecture.name(),
                arguments: json!({}),
                pool: "avg",
                first: "conv_stem",
                classifier: "classifier",
                fixed: false,
            }),
            None,
        ),
        // timm takes no epsilon from a file; a smaller one differs in the last digits of features.
        NetworkConfig::Vit(config) if config.norm_eps > 1e-6 => (
            None,
            Some(format!(
                "timm's transformers have norms of epsilon 1e-6, and this one of {:e}",
                config.norm_eps
            )),
        ),
        NetworkConfig::Vit(config) if config.pooling == Pooling::Both => (
            None,
            Some(
                "timm has no pooling that puts the mean of the patches beside the class token"
                    .to_owned(),
            ),
        ),
        NetworkConfig::Vit(config) => (Some(vit(encoder, config)), None),
    };
    let features = encoder.out_channels().unwrap_or_default();
    let mut pretrained = json!({
        "tag": "fgvr",
        "custom_load": false,
        "num_classes": 0,
        "input_size": [3, view.size[0], view.size[1]],
        "interpolation": view.interpolation.to_string(),
        "crop_pct": crop_pct(view),
        "crop_mode": if view.resize == Resize::Exact { "squash" } else { "center" },
        "mean": decimals(&view.mean),
        "std": decimals(&view.std),
    });
    let mut config = json!({ "num_classes": 0, "num_features": features });
    if let Some(built) = built {
        pretrained["fixed_input_size"] = json!(built.fixed);
        pretrained["first_conv"] = json!(built.first);
        pretrained["classifier"] = json!(built.classifier);
        config["architecture"] = json!(built.architecture);
        config["global_pool"] = json!(built.pool);
        config["model_args"] = built.arguments;
    }
    config["pretrained_cfg"] = pretrained;
    (config, obstacle)
}

/// How timm builds a network.
struct Built {
    architecture: &'static str,
    arguments: Value,
    pool: &'static str,
    first: &'static str,
    classifier: &'static str,
    fixed: bool,
}

/// A vision transformer that pools one vector of C channels.
fn vit(encoder: &EncoderConfig, config: &VitConfig) -> Built {
    let mut arguments = json!({
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        // timm's networks of these names have one for 64 channels.
        "num_heads": config.heads,
    });
    let mean = config.pooling == Pooling::PatchMean;
    if mean {
        // With this pooling alone timm would move the last norm behind it.
        arguments["global_pool"] = json!("avg");
        arguments["fc_norm"] = json!(false);
    }
    Built {
        architecture: encoder.architecture.name(),
        arguments,
        pool: if mean { "avg" } else { "token" },
        first: "patch_embed.proj",
        classifier: "head",
        fixed: true,
    }
}

/// A residual network of the published stem and width. timm has no names for those of one block a
/// stage, and takes their number as an argument.
fn resnet(encoder: &EncoderConfig) -> Option<Built> {
    let (architecture, arguments) = match encoder.architecture.name() {
        "resnet10" => ("resnet18", json!({ "layers": [1, 1, 1, 1] })),
        "resnet14" => ("resnet50", json!({ "layers": [1, 1, 1, 1] })),
        name => (name, json!({})),
    };
    Some(Built {
        architecture,
        arguments,
        pool: "avg",
        first: "conv1",
        classifier: "fc",
        fixed: false,
    })
}

/// The part of the resized image that is cut out, in as few decimals as give the resize back: timm
/// divides the size by it and rounds down.
fn crop_pct(view: &Preprocessing) -> f64 {
    let size = view.size[0].min(view.size[1]) as f64;
    let Resize::ShorterSide(side) = view.resize else {
        return 1.;
    };
    let gives_back = |part: &f64| *part > 0. && (size / part).floor() == side as f64;
    let rounded = (2..=8).map(|digits| {
        let scale = 10f64.powi(digits);
        (size / side as f64 * scale).floor() / scale
    });
    let mut candidates = rounded.chain([size / (side as f64 + 0.5)]);
    candidates.find(gives_back).unwrap_or(1.)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timm_resizes_to_the_side_we_resize_to() {
        for (size, side) in [
            (224, 256),
            (64, 73),
            (48, 48),
            (518, 518),
            (96, 110),
            (37, 42),
        ] {
            let view = Preprocessing {
                size: [size, size],
                resize: Resize::ShorterSide(side),
                ..Preprocessing::imagenet()
            };
            let part = crop_pct(&view);
            assert_eq!((size as f64 / part).floor() as usize, side, "{part}");
        }
        assert_eq!(crop_pct(&Preprocessing::imagenet()), 0.875);
    }
}
