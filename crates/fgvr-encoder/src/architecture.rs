//! The networks by name.

use crate::Error;

/// A network by timm's name for it (torchvision's for residual networks).
///
/// ```
/// use fgvr_encoder::Architecture;
/// let architecture: Architecture = "wide_resnet50_2".parse()?;
/// assert_eq!(architecture, Architecture::WideResNet50x2);
/// let error = "resnet-50".parse::<Architecture>().unwrap_err().to_string();
/// assert!(error.contains("did you mean `resnet50`?"));
/// # Ok::<(), fgvr_encoder::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "String", into = "String")
)]
pub enum Architecture {
    /// One basic block a stage; neither library has it.
    ResNet10,
    /// One bottleneck a stage; neither library has it.
    ResNet14,
    /// Two basic blocks a stage.
    ResNet18,
    /// 3, 4, 6 and 3 basic blocks.
    ResNet34,
    /// 3, 4, 6 and 3 bottlenecks.
    #[default]
    ResNet50,
    /// 3, 4, 23 and 3 bottlenecks.
    ResNet101,
    /// ResNet-50 with twice the channels inside each bottleneck (arXiv:1605.07146).
    WideResNet50x2,
    /// EfficientNet-Lite0 (arXiv:1905.11946, without squeeze-and-excitation) with TensorFlow's padding and epsilon, 224 px.
    TfEfficientNetLite0,
    /// EfficientNet-Lite1, 240 px.
    TfEfficientNetLite1,
    /// EfficientNet-Lite2, 260 px.
    TfEfficientNetLite2,
    /// EfficientNet-Lite3, 280 px.
    TfEfficientNetLite3,
    /// EfficientNet-Lite4, 300 px.
    TfEfficientNetLite4,
    /// EfficientNet-Lite0 with PyTorch's padding and epsilon: the same tensors, and another network.
    EfficientNetLite0,
    /// ViT-Ti/16 (arXiv:2012.12877), 224 px.
    VitTinyPatch16,
    /// ViT-S/16, 224 px.
    VitSmallPatch16,
    /// ViT-B/16 (arXiv:2010.11929), 224 px.
    VitBasePatch16,
    /// DINOv2's ViT-S/14 (arXiv:2304.07193), 518 px.
    VitSmallPatch14Dinov2,
    /// DINOv2's ViT-B/14, 518 px.
    VitBasePatch14Dinov2,
    /// DINOv2's ViT-S/14 with four registers (arXiv:2309.16588), 518 px.
    VitSmallPatch14Reg4Dinov2,
    /// DINOv2's ViT-B/14 with four registers, 518 px.
    VitBasePatch14Reg4Dinov2,
}

impl Architecture {
    /// Whether it is a vision transformer rather than a convolutional network.
    #[must_use]
    pub fn is_vit(self) -> bool {
        self.name().starts_with("vit_")
    }

    /// Whether it is an EfficientNet-Lite.
    #[must_use]
    pub fn is_efficientnet(self) -> bool {
        self.name().contains("efficientnet")
    }
}

fgvr_nn::named!(Architecture, "timm's name." {
    ResNet10 = "resnet10",
    ResNet14 = "resnet14",
    ResNet18 = "resnet18",
    ResNet34 = "resnet34",
    ResNet50 = "resnet50",
    ResNet101 = "resnet101",
    WideResNet50x2 = "wide_resnet50_2",
    TfEfficientNetLite0 = "tf_efficientnet_lite0",
    TfEfficientNetLite1 = "tf_efficientnet_lite1",
    TfEfficientNetLite2 = "tf_efficientnet_lite2",
    TfEfficientNetLite3 = "tf_efficientnet_lite3",
    TfEfficientNetLite4 = "tf_efficientnet_lite4",
    EfficientNetLite0 = "efficientnet_lite0",
    VitTinyPatch16 = "vit_tiny_patch16_224",
    VitSmallPatch16 = "vit_small_patch16_224",
    VitBasePatch16 = "vit_base_patch16_224",
    VitSmallPatch14Dinov2 = "vit_small_patch14_dinov2",
    VitBasePatch14Dinov2 = "vit_base_patch14_dinov2",
    VitSmallPatch14Reg4Dinov2 = "vit_small_patch14_reg4_dinov2",
    VitBasePatch14Reg4Dinov2 = "vit_base_patch14_reg4_dinov2",
} else Error: unknown);

/// The error of a name that no architecture has, with the one most like it.
fn unknown(name: &str) -> Error {
    let likeness = |known: &Architecture| strsim::jaro_winkler(name, known.name());
    let nearest = Architecture::ALL
        .into_iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    Error::UnknownArchitecture {
        found: name.to_owned(),
        nearest: nearest.unwrap_or_default().name(),
        known: Architecture::ALL.map(Architecture::name).join(", "),
    }
}

impl TryFrom<String> for Architecture {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_architecture() {
        for architecture in Architecture::ALL {
            let name = architecture.to_string();
            assert_eq!(name.parse::<Architecture>().unwrap(), architecture);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_and_all() {
        let error = "ResNet18".parse::<Architecture>().unwrap_err().to_string();
        assert!(error.contains("architecture `ResNet18` is unknown"));
        assert!(error.contains("did you mean `resnet18`"), "{error}");
        for architecture in Architecture::ALL {
            assert!(error.contains(architecture.name()), "{error}");
        }
    }
}
