//! A block of the transformer: attention, then a multilayer perceptron, each on a residual branch.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use fgvr_nn::layers::{
    Gelu, LayerNorm, LayerNormConfig, LayerScale, Linear, MultiHeadAttention, add,
};
use fgvr_nn::{Activation, Tape};

use super::{Initialisation, VitConfig, of_class};
use crate::intermediates::Intermediates;

/// Standard deviation of the initial weights. timm cuts its normal law at +-2, which is a hundred of
/// these, so nothing is cut.
pub(super) const STDEV: f64 = 0.02;

/// Uniform, so that a layer of so many inputs and outputs together keeps the size of what passes either way.
pub(super) fn xavier(inputs_and_outputs: usize) -> Init {
    let bound = (6. / inputs_and_outputs as f64).sqrt();
    Init::Uniform {
        lo: -bound,
        up: bound,
    }
}

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
        // Query, key and value lie in one matrix and are three.
        let initial = |c_in: usize, outputs: usize| match config.initialisation {
            Initialisation::Normal => Init::Randn {
                mean: 0.,
                stdev: STDEV,
            },
            Initialisation::Xavier => xavier(c_in + outputs),
        };
        let linear = |c_in, c_out, vb| {
            Linear::with_init(c_in, c_out, initial(c_in, c_out), Some(Init::Const(0.)), vb)
        };
        let scale = |vb| {
            let scale = config.layer_scale;
            scale
                .map(|initial| LayerScale::new(width, initial, vb))
                .transpose()
        };
        let norms = LayerNormConfig {
            eps: config.norm_eps,
        };
        let norm = |vb| LayerNorm::new(width, &norms, vb);
        let (attention, mlp) = (vb.pp("attn"), vb.pp("mlp"));
        let inside = width * config.mlp_ratio;
        Ok(Self {
            norm1: norm(vb.pp("norm1"))?,
            attention: MultiHeadAttention::from_projections(
                Linear::with_init(
                    width,
                    3 * width,
                    initial(width, width),
                    Some(Init::Const(0.)),
                    attention.pp("qkv"),
                )?,
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

    pub(super) fn variables(&self) -> Vec<Tensor> {
        let scales = [&self.scale1, &self.scale2].into_iter().flatten();
        let scales = scales.map(|scale| scale.gamma().clone()).collect();
        let norms = [self.norm1.variables(), self.norm2.variables()].concat();
        let mlp = [self.fc1.variables(), self.fc2.variables()].concat();
        [norms, self.attention.variables(), mlp, scales].concat()
    }

    /// The block on (N, 1, T, C), the `i`th: its attention is `attention.i` to `intermediates`,
    /// (N, heads, T, T), and `class_attention.i`, (N, T).
    pub(super) fn apply(
        &self,
        tape: &mut Tape,
        x: &Activation,
        i: usize,
        intermediates: &mut Intermediates<'_>,
    ) -> Result<Activation> {
        let normed = self.norm1.apply(tape, x)?;
        let branch = self.attend(tape, &normed, i, intermediates)?;
        let x = residual(tape, x, &branch, self.scale1.as_ref())?;
        let inside = self.norm2.apply(tape, &x)?;
        let inside = self.fc1.apply(tape, &inside)?;
        let inside = Gelu.apply(tape, &inside)?;
        let branch = self.fc2.apply(tape, &inside)?;
        residual(tape, &x, &branch, self.scale2.as_ref())
    }

    fn attend(
        &self,
        tape: &mut Tape,
        x: &Activation,
        i: usize,
        intermediates: &mut Intermediates<'_>,
    ) -> Result<Activation> {
        let (all, of_class) = (format!("attention.{i}"), of_class(i));
        let mut branch = None;
        if intermediates.wants(&of_class) {
            let (y, shares) = self.attention.apply_with_first_shares(tape, x)?;
            intermediates.see(&of_class, || Ok(shares))?;
            branch = Some(y);
        }
        if intermediates.wants(&all) {
            let (y, shares) = self.attention.apply_with_shares(tape, x)?;
            intermediates.see(&all, || Ok(shares))?;
            branch = Some(y);
        }
        match branch {
            Some(branch) => Ok(branch),
            None => self.attention.apply(tape, x),
        }
    }
}

fn residual(
    tape: &mut Tape,
    x: &Activation,
    branch: &Activation,
    scale: Option<&LayerScale>,
) -> Result<Activation> {
    match scale {
        Some(scale) => {
            let branch = scale.apply(tape, branch)?;
            add(tape, &branch, x)
        }
        None => add(tape, branch, x),
    }
}
