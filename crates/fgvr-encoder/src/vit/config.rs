//! Which vision transformer: patches, width, depth, registers.

use crate::Error;

/// Largest value accepted for a size: products of three of them stay far from overflow.
const MAX_SIZE: usize = 1 << 16;

/// [`VitConfig::norm_eps`] of timm's networks.
const NORM_EPS: f64 = 1e-6;

/// A vision transformer (arXiv:2010.11929) without its classifier.
///
/// ```
/// use fgvr_encoder::VitConfig;
/// let config = VitConfig { patch_size: 8, ..VitConfig::small_patch16() };
/// assert_eq!((config.width, config.grid()), (384, 28));
/// assert!(VitConfig { image_size: 220, ..config }.validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct VitConfig {
    /// Pixels of a patch's side.
    pub patch_size: usize,
    /// Pixels of the side of the images that the position embedding is made for; a multiple of the
    /// patch size.
    pub image_size: usize,
    /// C, the channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Heads of the attention; divides the width.
    pub heads: usize,
    /// Channels inside the multilayer perceptron of a block, over the width.
    pub mlp_ratio: usize,
    /// Initial value of the layer scale (arXiv:2103.17239); without one there is no layer scale.
    pub layer_scale: Option<f64>,
    /// Register tokens (arXiv:2309.16588) after the class token.
    pub registers: usize,
    /// Whether class and register tokens have a position embedding; timm's `not no_embed_class`.
    pub embed_prefix: bool,
    /// Added to the variance in every layer norm: 1e-6 in timm, torchvision and DINO, 1e-12 in transformers' ViT.
    pub norm_eps: f64,
    /// How the position embedding starts, and whether it is trained.
    pub positions: Positions,
    /// What the weights start from.
    pub initialisation: Initialisation,
    /// What of the tokens an image's features are.
    pub pooling: Pooling,
}

/// What of a transformer's tokens, after its last norm, the features of an image are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Pooling {
    /// The class token, (N, C).
    #[default]
    ClassToken,
    /// The mean of the patches' tokens, (N, C); registers do not count.
    PatchMean,
    /// The class token, then the mean of the patches' tokens, (N, 2C).
    Both,
}

fgvr_nn::named!(Pooling, "Its name in a settings file." {
    ClassToken = "class-token",
    PatchMean = "patch-mean",
    Both = "both",
});

impl Pooling {
    /// The pooling by its name in a settings file.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pooling| pooling.name() == name)
    }
}

/// How a position embedding starts, and whether it is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Positions {
    /// Normal, and trained.
    #[default]
    Learned,
    /// Sines and cosines of a patch's row and column as in MoCo v3 (arXiv:2104.02057), zero for other tokens, and not
    /// trained.
    Sincos,
}

fgvr_nn::named!(Positions, "Its name in a settings file." {
    Learned = "learned",
    Sincos = "sincos",
});

/// What the weights of a transformer start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Initialisation {
    /// timm's: normal with deviation 0.02, the projection of patches uniform as PyTorch's convolutions.
    #[default]
    Normal,
    /// MoCo v3's: uniform within sqrt(6 / (inputs + outputs)), query, key and value each by itself, the projection of
    /// patches too, with biases of zero.
    Xavier,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self::small_patch16()
    }
}

impl VitConfig {
    /// ViT-S/16 at 224 px.
    #[must_use]
    pub fn small_patch16() -> Self {
        Self {
            patch_size: 16,
            image_size: 224,
            width: 384,
            depth: 12,
            heads: 6,
            mlp_ratio: 4,
            layer_scale: None,
            registers: 0,
            embed_prefix: true,
            norm_eps: NORM_EPS,
            positions: Positions::Learned,
            initialisation: Initialisation::Normal,
            pooling: Pooling::ClassToken,
        }
    }

    /// ViT-Ti/16 at 224 px.
    #[must_use]
    pub fn tiny_patch16() -> Self {
        Self {
            width: 192,
            heads: 3,
            ..Self::small_patch16()
        }
    }

    /// ViT-B/16 at 224 px.
    #[must_use]
    pub fn base_patch16() -> Self {
        Self {
            width: 768,
            heads: 12,
            ..Self::small_patch16()
        }
    }

    /// This network as DINOv2 (arXiv:2304.07193) has it: patches of 14, images of 518 px, layer scale.
    #[must_use]
    pub fn dinov2(self) -> Self {
        Self {
            patch_size: 14,
            image_size: 518,
            layer_scale: Some(1e-5),
            ..self
        }
    }

    /// This network with `registers` register tokens, which like the class token then have no position
    /// embedding.
    #[must_use]
    pub fn with_registers(self, registers: usize) -> Self {
        Self {
            registers,
            embed_prefix: false,
            ..self
        }
    }

    /// Channels of the pooled vector: C, or twice as many of [`Pooling::Both`]. The map has C.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        match self.pooling {
            Pooling::ClassToken | Pooling::PatchMean => self.width,
            Pooling::Both => 2 * self.width,
        }
    }

    /// Checks what [`Vit::new`](crate::Vit::new) needs.
    ///
    /// # Errors
    /// [`Error::VitSize`], [`Error::PatchGrid`], [`Error::Heads`], [`Error::NormEps`], [`Error::Sincos`].
    pub fn validate(&self) -> Result<(), Error> {
        for (size, found) in [
            ("patch_size", self.patch_size),
            ("image_size", self.image_size),
            ("width", self.width),
            ("depth", self.depth),
            ("heads", self.heads),
            ("mlp_ratio", self.mlp_ratio),
            // It may be zero.
            ("registers", self.registers.saturating_add(1)),
        ] {
            if found == 0 || found > MAX_SIZE {
                return Err(Error::VitSize {
                    size,
                    found,
                    max: MAX_SIZE,
                });
            }
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Err(Error::PatchGrid {
                image_size: self.image_size,
                patch_size: self.patch_size,
            });
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(Error::Heads {
                width: self.width,
                heads: self.heads,
            });
        }
        if !(0. ..1.).contains(&self.norm_eps) {
            return Err(Error::NormEps {
                found: self.norm_eps,
            });
        }
        if self.positions == Positions::Sincos && !self.width.is_multiple_of(4) {
            return Err(Error::Sincos { width: self.width });
        }
        Ok(())
    }

    /// Patches along a side of an image of [`VitConfig::image_size`].
    #[must_use]
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    /// Tokens before those of the patches: class and registers.
    #[must_use]
    pub fn prefix_tokens(&self) -> usize {
        1 + self.registers
    }

    /// Those of [`VitConfig::prefix_tokens`] that have a position embedding: all or none.
    #[must_use]
    pub fn embedded_prefix_tokens(&self) -> usize {
        match self.embed_prefix {
            true => self.prefix_tokens(),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_does_not_divide_the_image_is_one_clear_error() {
        let config = VitConfig {
            image_size: 225,
            ..VitConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("image_size is 225, expected a multiple of patch_size, 16"),
            "{error}"
        );
    }

    #[test]
    fn sizes_of_zero_and_heads_that_do_not_divide_are_errors() {
        let plain = VitConfig::default();
        for config in [
            VitConfig {
                patch_size: 0,
                ..plain.clone()
            },
            VitConfig {
                depth: usize::MAX,
                ..plain.clone()
            },
        ] {
            let error = config.validate().unwrap_err();
            assert!(matches!(error, Error::VitSize { .. }), "{error}");
        }
        let error = VitConfig { heads: 5, ..plain }.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "vit: width is 384, expected a multiple of heads, 5"
        );
    }

    #[test]
    fn registers_take_the_position_embedding_of_the_class_token_away() {
        let config = VitConfig::small_patch16().dinov2().with_registers(4);
        assert_eq!((config.prefix_tokens(), config.grid()), (5, 37));
        assert_eq!(config.embedded_prefix_tokens(), 0);
        assert_eq!(VitConfig::small_patch16().embedded_prefix_tokens(), 1);
    }
}
