//! Softmax self-attention of several heads (arXiv:1706.03762).

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, Device, Layout, Module, ModuleT, Result, Shape, Tensor, bail,
};
use candle_nn::{Init, VarBuilder};

use super::{Linear, contiguous, on_device};
use crate::kernels::attention::{self, AttentionShape};
use crate::tape::with_values;
use crate::{Activation, Buffer, Tape};

/// The sizes of a [`MultiHeadAttention`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct AttentionConfig {
    /// Number of heads; divides the channels. By default 3.
    pub heads: usize,
    /// Whether the projections add a bias. By default true.
    pub bias: bool,
}

impl Default for AttentionConfig {
    /// The three heads of the smallest vision transformer (192 channels).
    fn default() -> Self {
        Self {
            heads: 3,
            bias: true,
        }
    }
}

/// Self-attention among the tokens of a sequence, with the names and initial values of
/// `torch.nn.MultiheadAttention`: variables `in_proj_weight` (3C, C; rows of queries, keys, values),
/// `in_proj_bias` (3C), `out_proj.weight` (C, C), `out_proj.bias` (C).
///
/// Softmax, product with the values and their gradients run per (image, head); the scores are not
/// kept for the backward but computed again, so memory grows with the tokens, not with their square.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    in_proj: Linear,
    out_proj: Linear,
    channels: usize,
    heads: usize,
}

impl MultiHeadAttention {
    /// Attention over `channels`. `in_proj_weight` starts Xavier uniform, `out_proj.weight` uniform
    /// within 1/sqrt(C), the biases 0, as PyTorch.
    ///
    /// # Errors
    /// No channels or heads, channels that do not divide into the heads, or a variable that `vb`
    /// cannot give.
    pub fn new(channels: usize, cfg: &AttentionConfig, vb: VarBuilder) -> Result<Self> {
        let AttentionConfig { heads, bias } = *cfg;
        if channels == 0 || heads == 0 || !channels.is_multiple_of(heads) {
            bail!("attention: {channels} channels do not divide into {heads} heads");
        }
        let uniform = |bound: f64| Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let biases = |name: &str, len: usize, vb: &VarBuilder| match bias {
            true => vb.get_with_hints(len, name, Init::Const(0.)).map(Some),
            false => Ok(None),
        };
        // Xavier: sqrt(6 / (fan in + fan out)), of C and 3C
        let xavier = uniform((6. / (4 * channels) as f64).sqrt());
        let in_weight = vb.get_with_hints((3 * channels, channels), "in_proj_weight", xavier)?;
        let in_bias = biases("in_proj_bias", 3 * channels, &vb)?;
        let out = vb.pp("out_proj");
        let init = uniform(1. / (channels as f64).sqrt());
        let out_weight = out.get_with_hints((channels, channels), "weight", init)?;
        let out_bias = biases("bias", channels, &out)?;
        let in_proj = Linear::from_tensors(in_weight, in_bias)?;
        let out_proj = Linear::from_tensors(out_weight, out_bias)?;
        Self::from_projections(in_proj, out_proj, heads)
    }

    /// Attention whose projections have names and initial values of their own: `in_proj` makes
    /// queries, keys and values (C to 3C), `out_proj` of what the heads found the output (C to C).
    ///
    /// # Errors
    /// Sizes that do not agree, or channels that do not divide into the heads.
    pub fn from_projections(in_proj: Linear, out_proj: Linear, heads: usize) -> Result<Self> {
        let channels = in_proj.c_in();
        let sizes = [in_proj.c_out(), out_proj.c_in(), out_proj.c_out()];
        if sizes != [3 * channels, channels, channels] {
            bail!(
                "attention: expected projections of {channels} to {} and of {channels} to {channels} \
                 channels, found {sizes:?}",
                3 * channels
            );
        }
        if heads == 0 || !channels.is_multiple_of(heads) {
            bail!("attention: {channels} channels do not divide into {heads} heads");
        }
        Ok(Self {
            in_proj,
            out_proj,
            channels,
            heads,
        })
    }

    /// The number of heads.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// The projection to queries, keys and values.
    #[must_use]
    pub fn in_proj(&self) -> &Linear {
        &self.in_proj
    }

    /// The projection of what the heads found.
    #[must_use]
    pub fn out_proj(&self) -> &Linear {
        &self.out_proj
    }

    /// Weights and biases of both projections.
    #[must_use]
    pub fn variables(&self) -> Vec<Tensor> {
        [self.in_proj.variables(), self.out_proj.variables()].concat()
    }

    /// Attention on the tape: (N, H, W, C) is N sequences of H*W tokens, and stays (N, H, W, C).
    ///
    /// # Errors
    /// Another number of channels, or a map without tokens.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        self.attend(tape, x, |_, _| Ok(()))
    }

    /// Attention over all places of `x`, with the shares that each query gives to each key,
    /// (N, heads, H*W, H*W): they are computed beside the pass, whose output has the same bits.
    ///
    /// # Errors
    /// Another number of channels, or a map without tokens.
    pub fn apply_with_shares(
        &self,
        tape: &mut Tape,
        x: &Activation,
    ) -> Result<(Activation, Tensor)> {
        let mut found = None;
        let y = self.attend(tape, x, |shape, qkv| {
            let AttentionShape {
                images,
                tokens,
                heads,
                ..
            } = *shape;
            let shares = match qkv.device() {
                Some(device) => on_device::shares(device, shape, qkv)?,
                None => {
                    let mut shares = vec![0.; images * heads * tokens * tokens];
                    attention::shares(shape, qkv.host()?, &mut shares);
                    shares
                }
            };
            let dims = (images, heads, tokens, tokens);
            found = Some(Tensor::from_vec(shares, dims, &Device::Cpu)?);
            Ok(())
        })?;
        match found {
            Some(shares) => Ok((y, shares)),
            None => bail!("attention: the shares were not computed"),
        }
    }

    /// Attention over all places of `x`, with the shares that the first token gives to each, mean over
    /// heads, (N, H*W): they are computed beside the pass, whose output has the same bits.
    ///
    /// # Errors
    /// Another number of channels, or a map without tokens.
    pub fn apply_with_first_shares(
        &self,
        tape: &mut Tape,
        x: &Activation,
    ) -> Result<(Activation, Tensor)> {
        let mut found = None;
        let y = self.attend(tape, x, |shape, qkv| {
            let dims = (shape.images, shape.tokens);
            let shares = match qkv.device() {
                Some(device) => on_device::first_shares(device, shape, qkv)?,
                None => {
                    let mut shares = vec![0.; dims.0 * dims.1];
                    attention::first_shares(shape, qkv.host()?, &mut shares);
                    shares
                }
            };
            found = Some(Tensor::from_vec(shares, dims, &Device::Cpu)?);
            Ok(())
        })?;
        match found {
            Some(shares) => Ok((y, shares)),
            None => bail!("attention: the shares were not computed"),
        }
    }

    /// `see` gets the queries, keys and values, (N, tokens, 3C).
    fn attend(
        &self,
        tape: &mut Tape,
        x: &Activation,
        see: impl FnOnce(&AttentionShape, &Activation) -> Result<()>,
    ) -> Result<Activation> {
        let [n, h, w, c] = x.shape;
        let shape = self.shape(n, h * w, c)?;
        let qkv = self.in_proj.apply(tape, x)?;
        see(&shape, &qkv)?;
        if let Some(device) = tape.device().cloned() {
            let y = on_device::attention(&device, tape, &shape, &qkv)?;
            return self.out_proj.apply(tape, &y);
        }
        let mut y = Buffer::scratch(x.host()?.len());
        attention::forward(&shape, qkv.host()?, &mut y);
        let y = tape.map(x.shape, y);
        let (id, input) = (qkv.id, Arc::clone(qkv.host()?));
        tape.push(&y, move |dy, gradients| {
            let mut d_qkv = Buffer::scratch(input.len());
            attention::backward(&shape, &input, &dy, &mut d_qkv);
            gradients.add(id, d_qkv);
            Ok(())
        });
        self.out_proj.apply(tape, &y)
    }

    fn shape(&self, images: usize, tokens: usize, c: usize) -> Result<AttentionShape> {
        if c != self.channels {
            bail!("attention: expected {} channels, found {c}", self.channels);
        }
        if images == 0 || tokens == 0 {
            bail!("attention: {images} sequences of {tokens} tokens hold nothing to attend to");
        }
        Ok(AttentionShape {
            images,
            tokens,
            heads: self.heads,
            width: c / self.heads,
        })
    }
}

impl Module for MultiHeadAttention {
    /// Attention on candle's autograd, (N, T, C) to (N, T, C).
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (n, t, c) = xs.dims3()?;
        let shape = self.shape(n, t, c)?;
        let qkv = self.in_proj.forward_t(xs, false)?.contiguous()?;
        self.out_proj
            .forward_t(&qkv.apply_op1(AttentionOp(shape))?, false)
    }
}

/// What the heads do with (N, T, 3C) on candle's autograd.
struct AttentionOp(AttentionShape);

impl CustomOp1 for AttentionOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let qkv = contiguous(qkv, layout)?;
        let AttentionShape {
            images,
            tokens,
            heads,
            width,
        } = self.0;
        let mut y = vec![0.; qkv.len() / 3];
        attention::forward(&self.0, qkv, &mut y);
        Ok((CpuStorage::F32(y), (images, tokens, heads * width).into()))
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut d_qkv = vec![0.; qkv.elem_count()];
        with_values(qkv, |qkv| {
            with_values(dy, |dy| attention::backward(&self.0, qkv, dy, &mut d_qkv))
        })??;
        Ok(Some(Tensor::from_vec(d_qkv, qkv.shape(), qkv.device())?))
    }
}
