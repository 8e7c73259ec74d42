//! Layer norm (arXiv:1607.06450).

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Layout, Module, Result, Shape, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use super::{contiguous, on_device};
use crate::kernels::layer_norm::{self, RowStatistics};
use crate::tape::with_values;
use crate::{Activation, Buffer, Tape};

/// The constants of a [`LayerNorm`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct LayerNormConfig {
    /// Added to the variance. By default 1e-6.
    pub eps: f64,
}

impl Default for LayerNormConfig {
    /// The vision transformers' 1e-6 (PyTorch's own default is 1e-5).
    fn default() -> Self {
        Self { eps: 1e-6 }
    }
}

/// Layer norm over the channels of each place; variables `weight` (1 at the start) and `bias` (0),
/// both (C).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    channels: usize,
    eps: f64,
}

impl LayerNorm {
    /// A norm over `channels`.
    ///
    /// # Errors
    /// No channels, an eps that is negative or not finite, or a variable that `vb` cannot give.
    pub fn new(channels: usize, cfg: &LayerNormConfig, vb: VarBuilder) -> Result<Self> {
        let eps = cfg.eps;
        if channels == 0 || !eps.is_finite() || eps < 0. {
            bail!("layer_norm: {channels} channels (1 or more), eps {eps} (0 or more)");
        }
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", Init::Const(1.))?,
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.))?,
            channels,
            eps,
        })
    }

    /// The weight (C).
    #[must_use]
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias (C).
    #[must_use]
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// What is added to the variance.
    #[must_use]
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Weight and bias.
    #[must_use]
    pub fn variables(&self) -> Vec<Tensor> {
        vec![self.weight.clone(), self.bias.clone()]
    }

    /// The norm on the tape, over C at each place of (N, H, W, C).
    ///
    /// # Errors
    /// Another number of channels.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let [.., c] = x.shape;
        if c != self.channels {
            bail!("layer_norm: expected {} channels, found {c}", self.channels);
        }
        if let Some(device) = tape.device().cloned() {
            return on_device::layer_norm(&device, tape, self, x);
        }
        let values = x.host()?;
        let mut y = Buffer::scratch(values.len());
        let rows = with_values(&self.weight, |weight| {
            with_values(&self.bias, |bias| {
                layer_norm::forward(values, weight, bias, self.eps, &mut y)
            })
        })??;
        let y = tape.map(x.shape, y);
        let (id, input) = (
            tape.needs_gradient(x).then_some(x.id),
            Arc::clone(x.host()?),
        );
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        tape.push(&y, move |mut dy, gradients| {
            let of_parameters = with_values(&weight, |weight| {
                layer_norm::backward(&mut dy, &input, weight, &rows)
            })?;
            if let Some(id) = id {
                gradients.add(id, dy);
            }
            gradients.add_parameter(&weight, of_parameters.weight)?;
            gradients.add_parameter(&bias, of_parameters.bias)
        });
        Ok(y)
    }
}

impl Module for LayerNorm {
    /// The norm on candle's autograd, over the last dimension.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match xs.dims().last() {
            Some(c) if *c == self.channels => {}
            _ => bail!(
                "layer_norm: expected {} channels in the last dimension, found {:?}",
                self.channels,
                xs.dims()
            ),
        }
        let op = NormOp {
            eps: self.eps,
            rows: Mutex::default(),
        };
        xs.contiguous()?
            .apply_op3(&self.weight.contiguous()?, &self.bias.contiguous()?, op)
    }
}

/// The norm on candle's autograd: inputs x, weight and bias.
struct NormOp {
    eps: f64,
    /// Written by the forward, read by every backward.
    rows: Mutex<Vec<RowStatistics>>,
}

impl CustomOp3 for NormOp {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (weight, bias) = (contiguous(weight, of_weight)?, contiguous(bias, of_bias)?);
        let x = contiguous(x, layout)?;
        let mut y = vec![0.; x.len()];
        let rows = layer_norm::forward(x, weight, bias, self.eps, &mut y);
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dx = with_values(dy, <[f32]>::to_vec)?;
        let gradients = with_values(x, |x| {
            with_values(weight, |weight| {
                layer_norm::backward(&mut dx, x, weight, &rows)
            })
        })??;
        let like =
            |values, tensor: &Tensor| Tensor::from_vec(values, tensor.shape(), tensor.device());
        Ok((
            Some(like(dx, x)?),
            Some(like(gradients.weight, weight)?),
            Some(like(gradients.bias, bias)?),
        ))
    }
}
