//! Which EfficientNet-Lite: widths, depths, padding, epsilon.

use crate::Error;

/// Channels of the stem, of any width multiplier.
pub(crate) const STEM: usize = 32;

/// Channels of the head, of any width multiplier.
pub(crate) const HEAD: usize = 1280;

/// Epsilon of the norms in TensorFlow's networks, and in PyTorch's.
pub(crate) const EPS: [f64; 2] = [1e-3, 1e-5];

/// Largest multiplier accepted: 1.4 and 1.8 are the largest published.
const MAX_MULTIPLIER: f64 = 16.;

/// Width multiplier, depth multiplier and pixels of an image's side of Lite0 to Lite4, as their authors have them.
const LITE: [(f64, f64, usize); 5] = [
    (1.0, 1.0, 224),
    (1.0, 1.1, 240),
    (1.1, 1.2, 260),
    (1.2, 1.4, 280),
    (1.4, 1.8, 300),
];

/// How the borders of a map are padded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Padding {
    /// TensorFlow's: where a stride of 2 asks for an odd number of zeros, the one more is below and on the right.
    #[default]
    Same,
    /// PyTorch's: as many on each side.
    Symmetric,
}

/// An EfficientNet-Lite (arXiv:1905.11946, without squeeze-and-excitation and with ReLU6) without its classifier.
///
/// ```
/// use fgvr_encoder::EfficientNetConfig;
/// let config = EfficientNetConfig::lite(4)?;
/// assert_eq!((config.width_multiplier, config.depth_multiplier), (1.4, 1.8));
/// assert!(EfficientNetConfig::lite(5).is_err());
/// # Ok::<(), fgvr_encoder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct EfficientNetConfig {
    /// Factor on the channels of all stages. Stem and head keep theirs, 32 and 1280.
    pub width_multiplier: f64,
    /// Factor on the blocks of all stages but the first and the last.
    pub depth_multiplier: f64,
    /// How borders are padded; leaves no trace in the tensors.
    pub padding: Padding,
    /// Epsilon of the batch norms: 1e-3 in TensorFlow's networks, 1e-5 in PyTorch's; leaves no trace either.
    pub norm_eps: f64,
}

impl Default for EfficientNetConfig {
    fn default() -> Self {
        let [norm_eps, _] = EPS;
        Self {
            width_multiplier: 1.,
            depth_multiplier: 1.,
            padding: Padding::Same,
            norm_eps,
        }
    }
}

/// Blocks of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) blocks: usize,
    /// Side of the depthwise kernels.
    pub(crate) kernel: usize,
    /// Stride of the first block.
    pub(crate) stride: usize,
    /// Channels inside a block over those that enter it; 1 in the first stage, which has no expansion at all.
    pub(crate) expansion: usize,
    pub(crate) channels: usize,
}

impl EfficientNetConfig {
    /// EfficientNet-Lite of this `scale`, 0 to 4, as TensorFlow has it: `tf_efficientnet_lite0` and so on.
    ///
    /// # Errors
    /// [`Error::Scale`].
    pub fn lite(scale: usize) -> Result<Self, Error> {
        let Some((width, depth, _)) = LITE.get(scale) else {
            return Err(Error::Scale {
                found: scale,
                max: LITE.len() - 1,
            });
        };
        Ok(Self {
            width_multiplier: *width,
            depth_multiplier: *depth,
            ..Self::default()
        })
    }

    /// This network with PyTorch's padding and epsilon: timm's `efficientnet_lite0`.
    #[must_use]
    pub fn symmetric(self) -> Self {
        let [_, norm_eps] = EPS;
        Self {
            padding: Padding::Symmetric,
            norm_eps,
            ..self
        }
    }

    /// Checks what [`EfficientNet::new`](crate::EfficientNet::new) needs.
    ///
    /// # Errors
    /// [`Error::Multiplier`], [`Error::NormEps`].
    pub fn validate(&self) -> Result<(), Error> {
        for (which, found) in [
            ("width_multiplier", self.width_multiplier),
            ("depth_multiplier", self.depth_multiplier),
        ] {
            if !(found > 0. && found <= MAX_MULTIPLIER) {
                return Err(Error::Multiplier {
                    which,
                    found,
                    max: MAX_MULTIPLIER,
                });
            }
        }
        match self.norm_eps {
            eps if (0. ..1.).contains(&eps) => Ok(()),
            found => Err(Error::NormEps { found }),
        }
    }

    /// C, the channels of the last map and of the pooled vector.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        HEAD
    }

    /// Pixels of the image per place of the last map, in each direction.
    #[must_use]
    pub fn stride(&self) -> usize {
        32
    }

    pub(crate) fn stages(&self) -> [Stage; 7] {
        let last = 6;
        // blocks, kernel, stride, channels, before the multipliers
        let published = [
            (1, 3, 1, 16),
            (2, 3, 2, 24),
            (2, 5, 2, 40),
            (3, 3, 2, 80),
            (3, 5, 1, 112),
            (4, 5, 2, 192),
            (1, 3, 1, 320),
        ];
        let mut index = 0;
        published.map(|(blocks, kernel, stride, channels)| {
            let at = index;
            index += 1;
            let fixed = at == 0 || at == last;
            Stage {
                blocks: if fixed { blocks } else { self.deep(blocks) },
                kernel,
                stride,
                expansion: if at == 0 { 1 } else { 6 },
                channels: self.wide(channels),
            }
        })
    }

    fn deep(&self, blocks: usize) -> usize {
        (blocks as f64 * self.depth_multiplier).ceil() as usize
    }

    /// The multiple of eight next to the scaled number, unless that takes more than a tenth of it away.
    fn wide(&self, channels: usize) -> usize {
        let scaled = channels as f64 * self.width_multiplier;
        let near = ((scaled + 4.) as usize / 8 * 8).max(8);
        near + if (near as f64) < 0.9 * scaled { 8 } else { 0 }
    }
}

/// Pixels of a side of the images that the network of this `scale` was made for.
pub(crate) fn image_size(scale: usize) -> Option<usize> {
    LITE.get(scale).map(|(_, _, size)| *size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_channels_are_those_of_the_published_networks() {
        // Blocks as efficientnet_pytorch counts them, and channels of the last stage but one.
        let expected = [(16, 192), (21, 192), (21, 208), (24, 232), (30, 272)];
        for (scale, expected) in expected.into_iter().enumerate() {
            let stages = EfficientNetConfig::lite(scale).unwrap().stages();
            let blocks: usize = stages.iter().map(|stage| stage.blocks).sum();
            assert_eq!((blocks, stages[5].channels), expected, "lite{scale}");
            assert_eq!((stages[0].blocks, stages[6].blocks), (1, 1));
        }
    }

    #[test]
    fn a_wrong_configuration_says_what_was_expected() {
        let error = EfficientNetConfig::lite(5).unwrap_err().to_string();
        assert_eq!(error, "efficientnet: scale is 5, expected 0 to 4");
        for found in [0., f64::NAN, 17.] {
            let config = EfficientNetConfig {
                depth_multiplier: found,
                ..EfficientNetConfig::default()
            };
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains("depth_multiplier is"), "{error}");
        }
        let config = EfficientNetConfig {
            norm_eps: 1.,
            ..EfficientNetConfig::default()
        };
        assert!(matches!(config.validate(), Err(Error::NormEps { .. })));
    }
}
