//! The layers of a frozen block, in the order they run in.

use candle_core::Result;
use fgvr_nn::layers::{LayerNorm, LayerScale, Linear};

use crate::vit::block::Block;

/// A transformer [`Block`] made ready for embedding, with norms `N` and linear layers `L` of the CPU or of a device.
pub(super) struct FrozenBlock<N, L> {
    pub(super) norm1: N,
    pub(super) qkv: L,
    pub(super) heads: usize,
    /// With the layer scale in its weights; so is `fc2`.
    pub(super) proj: L,
    pub(super) norm2: N,
    pub(super) fc1: L,
    pub(super) fc2: L,
}

impl<N, L> FrozenBlock<N, L> {
    /// With `norm` of each norm, and `linear` of each linear layer and of what its outputs are to be multiplied by.
    pub(super) fn new(
        block: &Block,
        norm: impl Fn(&LayerNorm) -> Result<N>,
        linear: impl Fn(&Linear, Option<&[f32]>) -> Result<L>,
    ) -> Result<Self> {
        let scaled = |layer: &Linear, scale: Option<&LayerScale>| {
            let gamma = scale.map(|scale| scale.gamma().to_vec1()).transpose()?;
            linear(layer, gamma.as_deref())
        };
        Ok(Self {
            norm1: norm(&block.norm1)?,
            qkv: linear(block.attention.in_proj(), None)?,
            heads: block.attention.heads(),
            proj: scaled(block.attention.out_proj(), block.scale1.as_ref())?,
            norm2: norm(&block.norm2)?,
            fc1: linear(&block.fc1, None)?,
            fc2: scaled(&block.fc2, block.scale2.as_ref())?,
        })
    }
}
