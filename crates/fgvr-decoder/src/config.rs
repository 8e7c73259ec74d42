//! The decoder's shape: where it starts, how often it doubles, how wide it is.

use candle_core::{Result, bail};

use crate::DecoderInput;

/// At most this many doublings in [`DecoderConfig::for_size`]; what is left is bilinear.
const MOST_BLOCKS: usize = 4;

/// A decoder from vectors (N, `features`), or maps of as many channels, to images (N, 3, `size`, `size`).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct DecoderConfig {
    /// C, the encoder's pooled channels. By default 2048.
    pub features: usize,
    /// What it is given. By default pooled features.
    pub input: DecoderInput,
    /// Blocks of two convolutions with a shortcut, rather than of one: sharper images at about twice the
    /// cost. By default false.
    pub residual: bool,
    /// Width of the first linear layer, and channels of the map that the second one makes. By default 512.
    pub hidden: usize,
    /// Side of that map, in places. By default 7.
    pub start: usize,
    /// Output channels of each block; a block doubles the side. By default 256, 128, 64 and 32.
    pub channels: Vec<usize>,
    /// Side of the images, in pixels. Where the blocks end elsewhere, a bilinear resize makes up
    /// the difference. By default 224.
    pub size: usize,
}

impl Default for DecoderConfig {
    /// ResNet-50's 2048 features to 224 px: 7 places, four blocks to 112, bilinear to 224.
    fn default() -> Self {
        Self::for_size(2048, 224, 32, 512)
    }
}

impl DecoderConfig {
    /// A decoder that mirrors an encoder of total stride `stride` on images of `size` px: it starts
    /// with `base` channels at `size / stride` (rounded up, as the encoder's map is), then doubles
    /// the side and halves the channels, up to four times. `base` scales its cost; 512 suits a
    /// ResNet-50, and narrower trunks less.
    ///
    /// # Design choice
    /// No block is narrower than eight channels (or `base`, if that is less).
    ///
    /// ```
    /// use fgvr_decoder::DecoderConfig;
    /// let config = DecoderConfig::for_size(512, 64, 16, 128);
    /// assert_eq!((config.start, config.channels), (4, vec![64, 32, 16, 8]));
    /// ```
    #[must_use]
    pub fn for_size(features: usize, size: usize, stride: usize, base: usize) -> Self {
        let start = size.div_ceil(stride.max(1));
        let narrowest = base.min(8);
        let channels = (1..=MOST_BLOCKS)
            .take_while(|doublings| start << doublings <= size)
            .map(|doublings| (base >> doublings).max(narrowest))
            .collect();
        Self {
            features,
            input: DecoderInput::Vector,
            residual: false,
            hidden: base,
            start,
            channels,
            size,
        }
    }

    /// Checks what [`ConvDecoder::new`](crate::ConvDecoder::new) needs.
    ///
    /// # Errors
    /// A count or a side of zero.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("features", self.features),
            ("hidden", self.hidden),
            ("start", self.start),
            ("size", self.size),
        ];
        for (name, value) in counts {
            if value == 0 {
                bail!("decoder: {name} is 0, expected at least 1");
            }
        }
        if let Some(block) = self.channels.iter().position(|channels| *channels == 0) {
            bail!("decoder: channels[{block}] is 0, expected at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_starts_at_seven_places_and_ends_at_112() {
        let config = DecoderConfig::default();
        assert_eq!((config.hidden, config.start), (512, 7));
        assert_eq!(config.channels, [256, 128, 64, 32]);
    }

    #[test]
    fn blocks_never_overshoot_the_size() {
        for (size, stride) in [
            (64, 16),
            (96, 16),
            (100, 16),
            (224, 32),
            (9, 16),
            (1, 32),
            (0, 0),
        ] {
            let config = DecoderConfig::for_size(8, size, stride, 64);
            assert!(
                config.start << config.channels.len() <= size.max(config.start),
                "{config:?}"
            );
        }
    }

    #[test]
    fn a_zero_says_which_field() {
        let zero_size = DecoderConfig {
            size: 0,
            ..DecoderConfig::default()
        };
        let error = zero_size.validate().unwrap_err().to_string();
        assert!(
            error.contains("decoder: size is 0, expected at least 1"),
            "{error}"
        );
        let zero_block = DecoderConfig {
            channels: vec![4, 0],
            ..DecoderConfig::default()
        };
        let error = zero_block.validate().unwrap_err().to_string();
        assert!(error.contains("channels[1] is 0"), "{error}");
    }
}
