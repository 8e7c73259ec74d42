//! The network that names and shapes speak of.

use std::collections::BTreeMap;
use std::fmt;

use super::lite;
use crate::{Architecture, EncoderConfig, Stem};

/// A network as its tensors show it. The number of attention heads and the padding of borders leave no trace in
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
pub enum FoundArchitecture {
    /// A residual network.
    ResNet {
        /// Blocks of each stage.
        blocks: [usize; 4],
        /// Whether the blocks have three convolutions.
        bottleneck: bool,
        /// Channels of the stem.
        width: usize,
        /// Channels inside the first block.
        inner: usize,
    },
    /// An EfficientNet-Lite.
    #[cfg_attr(feature = "serde", serde(rename = "efficientnet-lite"))]
    EfficientNetLite {
        /// 0 to 4.
        scale: usize,
    },
    /// A vision transformer.
    Vit {
        /// Channels of a token.
        width: usize,
        /// Blocks.
        depth: usize,
        /// Pixels of a patch, high and wide.
        patch: [usize; 2],
        /// Whether branches are scaled (DINOv2).
        layer_scale: bool,
        /// Register tokens.
        registers: usize,
    },
}

impl FoundArchitecture {
    /// Reads the network off the shapes of variables by timm's names.
    #[must_use]
    pub fn of(shapes: &BTreeMap<String, Vec<usize>>) -> Option<Self> {
        let dims = |name: &str| shapes.get(name).map(Vec::as_slice);
        if let Some(&[width, _, high, wide]) = dims("patch_embed.proj.weight") {
            let registers = match dims("reg_token") {
                Some(&[_, registers, _]) => registers,
                _ => 0,
            };
            return Some(Self::Vit {
                width,
                depth: numbers(shapes, "blocks."),
                patch: [high, wide],
                layer_scale: shapes.contains_key("blocks.0.ls1.gamma"),
                registers,
            });
        }
        if let Some(scale) = lite::scale(shapes) {
            return Some(Self::EfficientNetLite { scale });
        }
        let Some(&[inner, input, _, _]) = dims("layer1.0.conv1.weight") else {
            return None;
        };
        let width = dims("conv1.weight").and_then(|dims| dims.first()).copied();
        Some(Self::ResNet {
            blocks: ["layer1.", "layer2.", "layer3.", "layer4."]
                .map(|stage| numbers(shapes, stage)),
            bottleneck: shapes.contains_key("layer1.0.conv3.weight"),
            width: width.unwrap_or(input),
            inner,
        })
    }

    /// What to build for these weights, at the architecture's own image size, where a residual network's
    /// stem has a `kernel` of so many pixels; `None` for a network that this crate does not have, and for an
    /// EfficientNet-Lite, of which tensors do not show all: see [`Weights::encoder_as`](super::Weights::encoder_as).
    #[must_use]
    pub fn encoder(&self, kernel: usize) -> Option<EncoderConfig> {
        match *self {
            Self::ResNet {
                blocks,
                bottleneck,
                width,
                inner,
            } => {
                let wide = bottleneck && inner == 2 * width;
                let architecture = match (blocks, bottleneck, wide) {
                    ([1, 1, 1, 1], false, false) => Architecture::ResNet10,
                    ([1, 1, 1, 1], true, false) => Architecture::ResNet14,
                    ([2, 2, 2, 2], false, false) => Architecture::ResNet18,
                    ([3, 4, 6, 3], false, false) => Architecture::ResNet34,
                    ([3, 4, 6, 3], true, false) => Architecture::ResNet50,
                    ([3, 4, 23, 3], true, false) => Architecture::ResNet101,
                    ([3, 4, 6, 3], true, true) => Architecture::WideResNet50x2,
                    _ => return None,
                };
                let stem = match kernel {
                    7 => Stem::ImageNet,
                    3 => Stem::Small,
                    _ => return None,
                };
                (wide || inner == width).then(|| EncoderConfig {
                    stem,
                    width,
                    ..EncoderConfig::from(architecture)
                })
            }
            Self::Vit {
                width,
                depth: 12,
                patch: [high, wide],
                layer_scale,
                registers,
            } if high == wide => {
                let architecture = match (width, layer_scale, registers) {
                    (192, false, 0) => Architecture::VitTinyPatch16,
                    (384, false, 0) => Architecture::VitSmallPatch16,
                    (768, false, 0) => Architecture::VitBasePatch16,
                    (384, true, 0) => Architecture::VitSmallPatch14Dinov2,
                    (768, true, 0) => Architecture::VitBasePatch14Dinov2,
                    (384, true, 4) => Architecture::VitSmallPatch14Reg4Dinov2,
                    (768, true, 4) => Architecture::VitBasePatch14Reg4Dinov2,
                    _ => return None,
                };
                Some(EncoderConfig {
                    patch_size: Some(high),
                    ..EncoderConfig::from(architecture)
                })
            }
            Self::Vit { .. } | Self::EfficientNetLite { .. } => None,
        }
    }

    /// timm's name, for the networks that have one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match *self {
            Self::ResNet {
                blocks,
                bottleneck,
                width: 64,
                inner,
            } => {
                let name = match (blocks, bottleneck, inner) {
                    ([1, 1, 1, 1], false, 64) => "resnet10",
                    ([1, 1, 1, 1], true, 64) => "resnet14",
                    ([2, 2, 2, 2], false, 64) => "resnet18",
                    ([3, 4, 6, 3], false, 64) => "resnet34",
                    ([3, 4, 6, 3], true, 64) => "resnet50",
                    ([3, 4, 23, 3], true, 64) => "resnet101",
                    ([3, 8, 36, 3], true, 64) => "resnet152",
                    ([3, 4, 6, 3], true, 128) => "wide_resnet50_2",
                    ([3, 4, 23, 3], true, 128) => "wide_resnet101_2",
                    _ => return None,
                };
                Some(name.to_owned())
            }
            // Two of timm's have these tensors.
            Self::ResNet { .. } | Self::EfficientNetLite { .. } => None,
            Self::Vit {
                width,
                depth,
                patch: [high, wide],
                layer_scale,
                registers,
            } => {
                let size = match (width, depth) {
                    (192, 12) => "tiny",
                    (384, 12) => "small",
                    (768, 12) => "base",
                    (1024, 24) => "large",
                    _ => return None,
                };
                match (high == wide, layer_scale, registers) {
                    (true, false, 0) => Some(format!("vit_{size}_patch{high}_224")),
                    (true, true, 0) if high == 14 => Some(format!("vit_{size}_patch14_dinov2")),
                    (true, true, n) if high == 14 => {
                        Some(format!("vit_{size}_patch14_reg{n}_dinov2"))
                    }
                    _ => None,
                }
            }
        }
    }
}

impl fmt::Display for FoundArchitecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(&name);
        }
        match self {
            Self::ResNet {
                blocks: [a, b, c, d],
                bottleneck,
                width,
                inner,
            } => {
                let kind = if *bottleneck {
                    "bottlenecks"
                } else {
                    "basic blocks"
                };
                write!(
                    f,
                    "a ResNet of {a}, {b}, {c} and {d} {kind}, {width} channels in its stem"
                )?;
                if inner == width {
                    Ok(())
                } else {
                    write!(f, ", {inner} channels in its first block")
                }
            }
            Self::EfficientNetLite { scale } => write!(f, "an EfficientNet-Lite{scale}"),
            Self::Vit {
                width,
                depth,
                patch: [high, wide],
                layer_scale,
                registers,
            } => {
                write!(
                    f,
                    "a ViT of {depth} blocks of {width} channels, patches of {high}x{wide}"
                )?;
                if *layer_scale {
                    f.write_str(", with layer scale")?;
                }
                match registers {
                    0 => Ok(()),
                    n => write!(f, ", {n} registers"),
                }
            }
        }
    }
}

/// How many different numbers follow `prefix`.
pub(super) fn numbers(shapes: &BTreeMap<String, Vec<usize>>, prefix: &str) -> usize {
    let mut found = std::collections::BTreeSet::new();
    for name in shapes.range(prefix.to_owned()..).map(|(name, _)| name) {
        let Some(rest) = name.strip_prefix(prefix) else {
            break;
        };
        found.insert(rest.split('.').next().unwrap_or(rest));
    }
    found.len()
}
