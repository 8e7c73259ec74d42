//! A block of the transformer: attention, then a multilayer perceptron, each on a residual branch.

use candle_core::Result;
use candle_nn::{Init, VarBuilder};
use fgvr_nn::layers::{
    Gelu, LayerNorm, LayerNormConfig, LayerScale, Linear, MultiHeadAttention, add,
};
use fgvr_nn::{Map, Tape};

use super::VitConfig;
use crate::intermediates::Intermediates;

/// Standard deviation of the initial weights. timm cuts its normal law at +-2, which is a hundred of
/// these, so nothing is cut.
pub(super) const STDEV: f64 = 0.02;

/// x += ls1(attention(norm1(x))), then x += ls2(mlp(norm2(x))).
pub(super) struct Block {
    pub(super) norm1: LayerNorm,
    pub(super) attention: MultiHeadAttention,
    pub(super) scale1: Option<LayerScale>,
    pub(super) norm2: LayerNorm,
    pub(super) fc1: Linear,
    pub(super) fc2: Linear,
    pub(super) scale2: Option<LayerScale>,
}

impl Block {
    pub(super) fn new(config: &VitConfig, vb: VarBuilder) -> Result<Self> {
        let width = config.width;
        let linear = |c_in, c_out, vb| {
            let weight = Init::Randn {
                mean: 0.,
                stdev: STDEV,
            };
            Linear::with_init(c_in, c_out, weight, Some(Init::Const(0.)), vb)
        };
        let scale = |vb| {
            let scale = config.layer_scale;
            scale
                .map(|initial| LayerScale::new(width, initial, vb))
                .transpose()
        };
        let norm = |vb| LayerNorm::new(width, &LayerNormConfig::default(), vb);
        let (attention, mlp) = (vb.pp("attn"), vb.pp("mlp"));
        let inside = width * config.mlp_ratio;
        Ok(Self {
            norm1: norm(vb.pp("norm1"))?,
            attention: MultiHeadAttention::from_projections(
                linear(width, 3 * width, attention.pp("qkv"))?,
                linear(width, width, attention.pp("proj"))?,
                config.heads,
            )?,
            scale1: scale(vb.pp("ls1"))?,
            norm2: norm(vb.pp("norm2"))?,
            fc1: linear(width, inside, mlp.pp("fc1"))?,
            fc2: linear(inside, width, mlp.pp("fc2"))?,
            scale2: scale(vb.pp("ls2"))?,
        })
    }

    /// The block on (N, 1, T, C); its attention, (N, heads, T, T), is `attention` to `intermediates`.
    pub(super) fn apply(
        &self,
        tape: &mut Tape,
        x: &Map,
        attention: &str,
        intermediates: &mut Intermediates<'_>,
    ) -> Result<Map> {
        let normed = self.norm1.apply(tape, x)?;
        let branch = if intermediates.wants(attention) {
            let (branch, shares) = self.attention.apply_with_shares(tape, &normed)?;
            intermediates.see(attention, || Ok(shares))?;
            branch
        } else {
            self.attention.apply(tape, &normed)?
        };
        let x = residual(tape, x, &branch, self.scale1.as_ref())?;
        let inside = self.norm2.apply(tape, &x)?;
        let inside = self.fc1.apply(tape, &inside)?;
        let inside = Gelu.apply(tape, &inside)?;
        let branch = self.fc2.apply(tape, &inside)?;
        residual(tape, &x, &branch, self.scale2.as_ref())
    }
}

fn residual(tape: &mut Tape, x: &Map, branch: &Map, scale: Option<&LayerScale>) -> Result<Map> {
    match scale {
        Some(scale) => {
            let branch = scale.apply(tape, branch)?;
            add(tape, &branch, x)
        }
        None => add(tape, branch, x),
    }
}
