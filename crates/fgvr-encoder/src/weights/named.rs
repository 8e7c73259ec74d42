//! What the names of other programs say of a network.
//!
//! A name is known here only if the network behind it computes what this crate computes from the same
//! tensors: `resnetblur50` has the tensors of `resnet50` and other features.

use super::found::FoundArchitecture;
use crate::efficientnet::Padding;

/// The network behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    ResNet {
        blocks: [usize; 4],
        bottleneck: bool,
        /// Whether bottlenecks are twice as wide inside.
        wide: bool,
    },
    EfficientNetLite {
        scale: usize,
        padding: Padding,
    },
    Vit {
        width: usize,
        depth: usize,
        /// Pixels of a patch's side.
        patch: usize,
    },
}

/// timm's name for a network, perhaps with the tag of its weights.
pub(crate) fn timm(name: &str) -> Option<Named> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.split('.').next().unwrap_or(name);
    resnet(name)
        .or_else(|| efficientnet(name))
        .or_else(|| vit(name))
}

fn efficientnet(name: &str) -> Option<Named> {
    let (name, padding) = match name.strip_prefix("tf_") {
        Some(name) => (name, Padding::Same),
        None => (name, Padding::Symmetric),
    };
    let scale = match name.strip_prefix("efficientnet_lite")? {
        "0" => 0,
        "1" => 1,
        "2" => 2,
        "3" => 3,
        "4" => 4,
        _ => return None,
    };
    Some(Named::EfficientNetLite { scale, padding })
}

fn resnet(name: &str) -> Option<Named> {
    // Names of before timm had tags; the letter b is torchvision's network.
    let plain = ["tv_", "ssl_", "swsl_"]
        .iter()
        .find_map(|who| name.strip_prefix(who));
    let gluon = name
        .strip_prefix("gluon_")
        .and_then(|name| name.strip_suffix("_v1b"));
    let (blocks, bottleneck, wide) = match plain.or(gluon).unwrap_or(name) {
        "resnet10" => ([1, 1, 1, 1], false, false),
        "resnet14" => ([1, 1, 1, 1], true, false),
        "resnet18" => ([2, 2, 2, 2], false, false),
        "resnet26" => ([2, 2, 2, 2], true, false),
        "resnet34" => ([3, 4, 6, 3], false, false),
        "resnet50" => ([3, 4, 6, 3], true, false),
        "resnet101" => ([3, 4, 23, 3], true, false),
        "resnet152" => ([3, 8, 36, 3], true, false),
        "resnet200" => ([3, 24, 36, 3], true, false),
        "wide_resnet50_2" => ([3, 4, 6, 3], true, true),
        "wide_resnet101_2" => ([3, 4, 23, 3], true, true),
        _ => return None,
    };
    Some(Named::ResNet {
        blocks,
        bottleneck,
        wide,
    })
}

fn vit(name: &str) -> Option<Named> {
    let (family, rest) = name.split_once('_')?;
    let (size, rest) = match rest.split_once('_') {
        Some((size, rest)) => (size, rest),
        // flexivit_small: patches of 16, and positions for patches alone
        None if family == "flexivit" => (rest, "patch16_240"),
        None => return None,
    };
    let (width, depth) = match size {
        "tiny" => (192, 12),
        "small" => (384, 12),
        "base" => (768, 12),
        "large" => (1024, 24),
        _ => return None,
    };
    let (patch, kind) = rest.strip_prefix("patch")?.split_once('_')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (first, tag) = kind.split_once('_').unwrap_or((kind, ""));
    let known = match family {
        "vit" => match (first, tag) {
            ("dinov2", "") => true,
            (registers, "dinov2") => registers.strip_prefix("reg").is_some_and(number),
            // Before timm had tags they stood in the name.
            (pixels, "" | "in21k" | "sam" | "dino") => number(pixels),
            _ => false,
        },
        "deit" | "flexivit" => number(kind),
        "deit3" => number(first) && matches!(tag, "" | "in21ft1k"),
        _ => false,
    };
    (known && number(patch)).then_some(())?;
    Some(Named::Vit {
        width,
        depth,
        patch: patch.parse().ok()?,
    })
}

/// A family of transformers' that computes what this crate computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ModelType {
    pub(crate) vit: bool,
    /// Its default, which counts where a configuration says nothing.
    pub(crate) norm_eps: f64,
}

impl ModelType {
    /// Heads of attention where a configuration says nothing.
    pub(crate) const HEADS: usize = 12;

    /// The family by its `model_type`.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (vit, norm_eps) = match name {
            // Masked autoencoders without masks, and Siamese networks, are plain ViTs.
            "vit" | "vit_mae" => (true, 1e-12),
            "vit_msn" | "dinov2" | "dinov2_with_registers" => (true, 1e-6),
            "resnet" => (false, 1e-5),
            _ => return None,
        };
        Some(Self { vit, norm_eps })
    }

    /// The family by a class of it, such as `ViTForImageClassification`.
    pub(crate) fn of_class(class: &str) -> Option<Self> {
        let families = [
            ("Dinov2WithRegisters", "dinov2_with_registers"),
            ("Dinov2", "dinov2"),
            ("ViTMSN", "vit_msn"),
            ("ViTMAE", "vit_mae"),
            ("ViT", "vit"),
            ("ResNet", "resnet"),
        ];
        families.iter().find_map(|(start, family)| {
            let rest = class.strip_prefix(start)?;
            let whole = rest.starts_with("Model") || rest.starts_with("For") || rest == "Backbone";
            whole.then(|| Self::of(family))?
        })
    }
}

impl Named {
    /// What of `found` is not as the name says. Sizes that leave their trace in shapes count where the
    /// network has a published size, so that a narrow relative of a network may have its name.
    pub(crate) fn difference(self, found: &FoundArchitecture) -> Option<String> {
        match (self, found) {
            (
                Self::ResNet {
                    blocks,
                    bottleneck,
                    wide,
                },
                FoundArchitecture::ResNet {
                    blocks: there,
                    bottleneck: three,
                    width,
                    inner,
                },
            ) => {
                let same =
                    blocks == *there && bottleneck == *three && wide == (*inner == 2 * width);
                (!same).then(|| found.to_string())
            }
            // How it is padded is compared by itself.
            (
                Self::EfficientNetLite { scale, .. },
                FoundArchitecture::EfficientNetLite { scale: there },
            ) => (scale != *there).then(|| found.to_string()),
            (
                Self::Vit {
                    width,
                    depth,
                    patch,
                },
                FoundArchitecture::Vit {
                    width: wide,
                    depth: deep,
                    patch: [high, _],
                    ..
                },
            ) => {
                let published = matches!(wide, 192 | 384 | 768 | 1024 | 1280);
                let same = (width, depth, patch) == (*wide, *deep, *high);
                (published && !same).then(|| found.to_string())
            }
            _ => Some(found.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_same_network_are_known_and_of_others_are_not() {
        for name in [
            "resnet18",
            "resnet50.a1_in1k",
            "timm/resnet50.a1_in1k",
            "tv_resnet34",
            "swsl_resnet50",
            "gluon_resnet101_v1b",
            "wide_resnet50_2",
            "vit_tiny_patch16_224",
            "vit_small_patch16_384.augreg_in21k_ft_in1k",
            "vit_small_patch16_224_dino",
            "vit_base_patch8_224",
            "vit_small_patch14_dinov2.lvd142m",
            "vit_base_patch14_reg4_dinov2",
            "deit_small_patch16_224",
            "deit3_base_patch16_384",
            "deit3_small_patch16_224_in21ft1k",
            "flexivit_small",
            "tf_efficientnet_lite0.in1k",
            "efficientnet_lite0.ra_in1k",
            "tf_efficientnet_lite4",
        ] {
            assert!(timm(name).is_some(), "{name}");
        }
        for name in [
            "seresnet18",
            "resnetblur18",
            "resnetaa50",
            "resnet50d",
            "resnet50_gn",
            "resnet18t",
            "gluon_resnet50_v1d",
            "gluon_resnet50_v1c",
            "resnext50_32x4d",
            "ecaresnet50d",
            "resnetv2_50x1_bit",
            "vit_small_patch16_rope_224",
            "vit_small_patch16_rope_ape_224",
            "vit_small_patch16_dinov3",
            "vit_base_patch16_clip_224",
            "vit_base_patch16_clip_quickgelu_224",
            "vit_base_patch16_siglip_224",
            "vit_base_patch16_siglip_gap_224",
            "vit_base_patch16_gap_224",
            "vit_base_patch16_reg4_gap_256",
            "vit_base_patch14_reg1_tipsv2",
            "vit_base_patch16_rpn_224",
            "vit_base_patch16_xp_224",
            "vit_base_patch16_224_miil",
            "vit_relpos_small_patch16_224",
            "vit_small_r26_s32_224",
            "deit_small_distilled_patch16_224",
            "beit_base_patch16_224",
            "eva02_small_patch14_224",
            "samvit_base_patch16",
            "tf_efficientnet_b0",
            "efficientnet_lite5",
            "tf_mobilenetv3_large_100",
            "",
        ] {
            assert_eq!(timm(name), None, "{name}");
        }
        for name in ["vit", "vit_msn", "dinov2", "resnet"] {
            assert!(ModelType::of(name).is_some(), "{name}");
        }
        for name in [
            "beit",
            "deit",
            "dinov3_vit",
            "ijepa",
            "vit_hybrid",
            "yolos",
            "swin",
            "convnext",
        ] {
            assert!(ModelType::of(name).is_none(), "{name}");
        }
        assert!(ModelType::of_class("ViTForImageClassification").is_some());
        assert!(ModelType::of_class("ViTHybridModel").is_none());
    }
}
