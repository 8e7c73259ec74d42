//! A frozen vision transformer on a device: nothing recorded, residuals added with the biases.

use candle_core::{Result, Tensor};
use fgvr_nn::layers::{
    DeviceLinear, DeviceNorm, DeviceTokens, LayerScale, Linear, LinearFinish, mean_of_places,
    self_attention, take_tokens,
};
use fgvr_nn::{Device, Features, Map, Tape};

use super::{gamma, prefix};
use crate::vit::block::Block;
use crate::vit::{Pooling, Vit};
use fgvr_nn::images;

/// A frozen network on a device.
pub(super) struct OnDevice {
    device: Device,
    tokens: DeviceTokens,
    blocks: Vec<BlockThere>,
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
                .map(|block| BlockThere::new(device, block))
                .collect::<Result<_>>()?,
            norm: DeviceNorm::new(device, &vit.norm)?,
            before: vit.config.prefix_tokens(),
            pooling: vit.config.pooling,
            device: device.clone(),
        })
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn features(&self, images: &Tensor) -> Result<Features> {
        let (mut tape, mut x, [h, w]) = self.enter(images)?;
        for block in &self.blocks {
            x = block.apply(&mut tape, &x)?;
        }
        let class = first(&mut tape, &x)?;
        let x = self.norm.apply(&mut tape, &x)?;
        let map = take_tokens(&mut tape, &x, self.before..self.before + h * w, (h, w))?;
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
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor> {
        if self.pooling != Pooling::ClassToken {
            return Ok(self.features(images)?.pooled);
        }
        let (mut tape, mut x, _) = self.enter(images)?;
        if let Some((last, blocks)) = self.blocks.split_last() {
            for block in blocks {
                x = block.apply(&mut tape, &x)?;
            }
            let found = last.attend(&mut tape, &x)?;
            let (found, class) = (first(&mut tape, &found)?, first(&mut tape, &x)?);
            x = last.finish(&mut tape, &found, &class)?;
        }
        let class = first(&mut tape, &x)?;
        self.norm.vectors(&class)
    }

    /// The tokens of the images, and the rows and columns of their patches.
    fn enter(&self, images: &Tensor) -> Result<(Tape, Map, [usize; 2])> {
        let mut tape = Tape::inference().on(Some(&self.device));
        let images = images::input(&mut tape, images, false)?;
        let (x, grid) = self.tokens.apply(&mut tape, &images)?;
        Ok((tape, x, grid))
    }
}

/// The first token of each sequence, (N, 1, 1, C).
fn first(tape: &mut Tape, x: &Map) -> Result<Map> {
    take_tokens(tape, x, 0..1, (1, 1))
}

/// As [`Block`].
struct BlockThere {
    norm1: DeviceNorm,
    qkv: DeviceLinear,
    heads: usize,
    /// With the layer scale in its weights; so is `fc2`.
    proj: DeviceLinear,
    norm2: DeviceNorm,
    fc1: DeviceLinear,
    fc2: DeviceLinear,
}

impl BlockThere {
    fn new(device: &Device, block: &Block) -> Result<Self> {
        let scaled = |layer: &Linear, scale: Option<&LayerScale>| {
            DeviceLinear::new(device, layer, gamma(scale)?.as_deref())
        };
        Ok(Self {
            norm1: DeviceNorm::new(device, &block.norm1)?,
            qkv: scaled(block.attention.in_proj(), None)?,
            heads: block.attention.heads(),
            proj: scaled(block.attention.out_proj(), block.scale1.as_ref())?,
            norm2: DeviceNorm::new(device, &block.norm2)?,
            fc1: scaled(&block.fc1, None)?,
            fc2: scaled(&block.fc2, block.scale2.as_ref())?,
        })
    }

    fn apply(&self, tape: &mut Tape, x: &Map) -> Result<Map> {
        let found = self.attend(tape, x)?;
        self.finish(tape, &found, x)
    }

    /// What the heads find for each token.
    fn attend(&self, tape: &mut Tape, x: &Map) -> Result<Map> {
        let normed = self.norm1.apply(tape, x)?;
        let qkv = self.qkv.apply(tape, &normed, LinearFinish::Replace)?;
        self_attention(tape, &qkv, self.heads)
    }

    /// The rest of the block, from what the heads found: each token by itself.
    fn finish(&self, tape: &mut Tape, found: &Map, x: &Map) -> Result<Map> {
        let x = self.proj.apply_add(tape, found, x)?;
        let normed = self.norm2.apply(tape, &x)?;
        let inside = self.fc1.apply(tape, &normed, LinearFinish::Gelu)?;
        self.fc2.apply_add(tape, &inside, &x)
    }
}
