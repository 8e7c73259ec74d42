//! Which residual network: depth, width, stem.

use crate::Error;

/// Widest net accepted: 2048 base channels end in 65,536.
const MAX_WIDTH: usize = 2048;

/// [`ResNetConfig::base_width`] of all published nets but the wide ones.
const BASE_WIDTH: usize = 64;

/// How an image enters the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Stem {
    /// 7x7 convolution of stride 2, then 3x3 max-pool of stride 2: the published networks, total
    /// stride 32.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "imagenet", alias = "image-net"))]
    ImageNet,
    /// 3x3 convolution of stride 2 and no pooling, total stride 16: for images of at most about
    /// 96 px, where the other stem leaves a map of 2x2 places.
    Small,
}

fgvr_nn::named!(Stem, "Its name in a settings file." {
    ImageNet = "imagenet",
    Small = "small",
});

/// The two kinds of residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 and 1x1 convolutions; the last widens by [`BlockKind::expansion`].
    Bottleneck,
}

impl BlockKind {
    /// Output channels over base channels of the stage.
    pub(crate) fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// A residual network (arXiv:1512.03385) without its classifier.
///
/// ```
/// use fgvr_encoder::ResNetConfig;
/// assert_eq!(ResNetConfig::resnet50().out_channels(), 2048);
/// assert!(ResNetConfig { depth: 51, ..ResNetConfig::resnet50() }.validate().is_err());
/// # Ok::<(), fgvr_encoder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct ResNetConfig {
    /// 10, 18, 34 (basic blocks) or 14, 50, 101 (bottlenecks). 10 and 14 have one block a stage.
    pub depth: usize,
    /// Channels of the stem and of the first stage before expansion; each stage doubles them. 64 in
    /// the published networks.
    pub width: usize,
    /// Channels of a bottleneck's 3x3 convolution where its stage has 64 before expansion: 64, or 128
    /// in the wide networks (arXiv:1605.07146). Basic blocks have 64 alone.
    pub base_width: usize,
    /// How an image enters.
    pub stem: Stem,
    /// Starts the last norm of every block at weight zero, so that every block starts as the
    /// identity (arXiv:1706.02677, section 5.1).
    pub zero_init_residual: bool,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self::resnet50()
    }
}

impl ResNetConfig {
    /// ResNet-50 as torchvision has it.
    #[must_use]
    pub fn resnet50() -> Self {
        Self {
            depth: 50,
            width: 64,
            base_width: BASE_WIDTH,
            stem: Stem::ImageNet,
            zero_init_residual: false,
        }
    }

    /// ResNet-18 as torchvision has it.
    #[must_use]
    pub fn resnet18() -> Self {
        Self {
            depth: 18,
            ..Self::resnet50()
        }
    }

    /// Checks what [`ResNet::new`](crate::ResNet::new) needs.
    ///
    /// # Errors
    /// [`Error::UnknownDepth`], [`Error::Width`], [`Error::BaseWidth`].
    pub fn validate(&self) -> Result<(), Error> {
        self.layout().map(drop)
    }

    /// C, the channels of the last map and of the pooled vector: 512 or 2048 at width 64.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        let expansion = match self.depth {
            14 | 50 | 101 => BlockKind::Bottleneck.expansion(),
            _ => BlockKind::Basic.expansion(),
        };
        self.width.saturating_mul(8 * expansion)
    }

    /// Pixels of the image per place of the last map, in each direction: 32 or 16.
    #[must_use]
    pub fn stride(&self) -> usize {
        match self.stem {
            Stem::ImageNet => 32,
            Stem::Small => 16,
        }
    }

    /// The kind of block, and how many of them each stage has.
    pub(crate) fn layout(&self) -> Result<(BlockKind, [usize; 4]), Error> {
        if self.width == 0 || self.width > MAX_WIDTH {
            return Err(Error::Width {
                found: self.width,
                max: MAX_WIDTH,
            });
        }
        let (kind, blocks) = match self.depth {
            10 => (BlockKind::Basic, [1; 4]),
            14 => (BlockKind::Bottleneck, [1; 4]),
            18 => (BlockKind::Basic, [2; 4]),
            34 => (BlockKind::Basic, [3, 4, 6, 3]),
            50 => (BlockKind::Bottleneck, [3, 4, 6, 3]),
            101 => (BlockKind::Bottleneck, [3, 4, 23, 3]),
            found => return Err(Error::UnknownDepth { found }),
        };
        let expected = match kind {
            BlockKind::Basic => BASE_WIDTH..=BASE_WIDTH,
            BlockKind::Bottleneck => 1..=MAX_WIDTH,
        };
        if !expected.contains(&self.base_width) || self.inner_width(self.width) == 0 {
            return Err(Error::BaseWidth {
                found: self.base_width,
                depth: self.depth,
            });
        }
        Ok((kind, blocks))
    }

    /// Channels inside a bottleneck of a stage with `base` channels before expansion.
    pub(crate) fn inner_width(&self, base: usize) -> usize {
        base * self.base_width / BASE_WIDTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(depth: usize, width: usize) -> ResNetConfig {
        ResNetConfig {
            depth,
            width,
            ..ResNetConfig::default()
        }
    }

    #[test]
    fn depth_counts_the_layers_with_weights() {
        for depth in [10, 14, 18, 34, 50, 101] {
            let (kind, blocks) = config(depth, 64).layout().unwrap();
            let per_block = match kind {
                BlockKind::Basic => 2,
                BlockKind::Bottleneck => 3,
            };
            // The stem and the classifier, which this crate leaves out, are the other two.
            assert_eq!(per_block * blocks.iter().sum::<usize>() + 2, depth);
        }
    }

    #[test]
    fn a_wrong_configuration_says_what_was_expected() {
        let error = config(20, 64).validate().unwrap_err().to_string();
        assert_eq!(
            error,
            "resnet: depth is 20, expected one of 10, 14, 18, 34, 50, 101"
        );
        for width in [0, usize::MAX] {
            let error = config(18, width).validate().unwrap_err();
            assert!(matches!(error, Error::Width { found, .. } if found == width));
        }
    }

    #[test]
    fn only_bottlenecks_may_be_wide() {
        let wide = |depth, base_width| ResNetConfig {
            base_width,
            ..config(depth, 64)
        };
        assert!(wide(50, 128).validate().is_ok());
        assert_eq!(wide(50, 128).out_channels(), 2048);
        for (depth, base_width) in [(18, 128), (50, 0), (50, usize::MAX)] {
            let error = wide(depth, base_width).validate().unwrap_err();
            assert!(matches!(error, Error::BaseWidth { found, .. } if found == base_width));
        }
    }

    #[test]
    fn channels_and_stride_follow_width_and_stem() {
        assert_eq!(config(18, 64).out_channels(), 512);
        assert_eq!(config(50, 16).out_channels(), 512);
        let small = ResNetConfig {
            stem: Stem::Small,
            ..config(18, 16)
        };
        assert_eq!((small.out_channels(), small.stride()), (128, 16));
        assert_eq!(config(18, 64).stride(), 32);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_file_may_leave_fields_out_but_not_make_them_up() {
        let config: ResNetConfig =
            serde_json::from_str(r#"{"depth": 18, "stem": "small"}"#).unwrap();
        let expected = ResNetConfig {
            stem: Stem::Small,
            ..ResNetConfig::resnet18()
        };
        assert_eq!(config, expected);
        let written = serde_json::to_string(&ResNetConfig::resnet50()).unwrap();
        assert!(written.contains(r#""stem":"imagenet""#), "{written}");
        let error = serde_json::from_str::<ResNetConfig>(r#"{"dept": 18}"#).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `dept`"),
            "{error}"
        );
    }
}
