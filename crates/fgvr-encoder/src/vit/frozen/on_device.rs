//! A frozen vision transformer on a device: nothing recorded, residuals added with the biases.

use candle_core::{Result, Tensor};
use fgvr_nn::layers::{
    DeviceLinear, DeviceNorm, DeviceTokens, LinearFinish, mean_of_places, self_attention,
    take_tokens,
};
use fgvr_nn::{Activation, Device, Features, Tape, images};

use super::block::FrozenBlock;
use super::prefix;
use crate::frozen::Frozen;
use crate::vit::{Pooling, Vit};

type DeviceBlock = FrozenBlock<DeviceNorm, DeviceLinear>;

/// A frozen network on a device.
pub(super) struct OnDevice {
    tokens: DeviceTokens,
    blocks: Vec<DeviceBlock>,
    norm: DeviceNorm,
    /// Tokens before those of the patches.
    before: usize,
    pooling: Pooling,
}

impl OnDevice {
    pub(super) fn new(vit: &Vit, device: &Device) -> Result<Self> {
        let patches = (&vit.patches, vit.config.patch_size);
        Ok(Self {
            tokens: DeviceTokens::new(device, patches, &prefix(vit)?, &vit.positions)?,
            blocks: vit
                .blocks
                .iter()
                .map(|block| {
                    DeviceBlock::new(
                        block,
                        |norm| DeviceNorm::new(device, norm),
                        |layer, scale| DeviceLinear::new(device, layer, scale),
                    )
                })
                .collect::<Result<_>>()?,
            norm: DeviceNorm::new(device, &vit.norm)?,
            before: vit.config.prefix_tokens(),
            pooling: vit.config.pooling,
        })
    }

    /// The tokens of the images, and the rows and columns of their patches.
    fn enter(&self, tape: &mut Tape, images: &Tensor) -> Result<(Activation, [usize; 2])> {
        let images = images::input(tape, images, false)?;
        self.tokens.apply(tape, &images)
    }
}

impl Frozen for OnDevice {
    fn features(&self, tape: &mut Tape, images: &Tensor) -> Result<Features> {
        let (mut x, [h, w]) = self.enter(tape, images)?;
        for block in &self.blocks {
            x = block.apply(tape, &x)?;
        }
        let class = first(tape, &x)?;
        let x = self.norm.apply(tape, &x)?;
        let map = take_tokens(tape, &x, self.before..self.before + h * w, (h, w))?;
        let pooled = match self.pooling {
            Pooling::ClassToken => self.norm.vectors(&class)?,
            Pooling::PatchMean => mean_of_places(&map)?,
            // (N, C) twice -> (N, 2C)
            Pooling::Both => Tensor::cat(&[self.norm.vectors(&class)?, mean_of_places(&map)?], 1)?,
        };
        Ok(Features {
            pooled,
            map: map.to_tensor()?,
        })
    }

    /// In the last block, tokens but the class are looked at by the attention alone, where the class is all.
    fn embed(&self, tape: &mut Tape, images: &Tensor) -> Result<Tensor> {
        if self.pooling != Pooling::ClassToken {
            return Ok(self.features(tape, images)?.pooled);
        }
        let (mut x, _) = self.enter(tape, images)?;
        if let Some((last, blocks)) = self.blocks.split_last() {
            for block in blocks {
                x = block.apply(tape, &x)?;
            }
            let found = last.attend(tape, &x)?;
            let (found, class) = (first(tape, &found)?, first(tape, &x)?);
            x = last.finish(tape, &found, &class)?;
        }
        let class = first(tape, &x)?;
        self.norm.vectors(&class)
    }
}

/// The first token of each sequence, (N, 1, 1, C).
fn first(tape: &mut Tape, x: &Activation) -> Result<Activation> {
    take_tokens(tape, x, 0..1, (1, 1))
}

impl DeviceBlock {
    fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let found = self.attend(tape, x)?;
        self.finish(tape, &found, x)
    }

    /// What the heads find for each token.
    fn attend(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let normed = self.norm1.apply(tape, x)?;
        let qkv = self.qkv.apply(tape, &normed, LinearFinish::Replace)?;
        self_attention(tape, &qkv, self.heads)
    }

    /// The rest of the block, from what the heads found: each token by itself.
    fn finish(&self, tape: &mut Tape, found: &Activation, x: &Activation) -> Result<Activation> {
        let x = self.proj.apply_add(tape, found, x)?;
        let normed = self.norm2.apply(tape, &x)?;
        let inside = self.fc1.apply(tape, &normed, LinearFinish::Gelu)?;
        self.fc2.apply_add(tape, &inside, &x)
    }
}
