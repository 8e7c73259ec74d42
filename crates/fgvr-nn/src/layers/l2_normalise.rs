//! Vectors scaled to a Euclidean length of one.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Module, Result, Shape, Tensor, bail};

use super::{contiguous, on_device};
use crate::kernels::l2_normalise;
use crate::tape::{to_channels_first, to_channels_last, with_values};
use crate::{Activation, Buffer, Tape};

/// y = x / max(|x|, eps) over the channels: PyTorch's `F.normalize`, and its gradient. A vector
/// no longer than eps, the zero vector too, is divided by the constant eps: its gradient is dy / eps.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct L2Normalise {
    /// The smallest length that is divided by; more than 0.
    pub eps: f64,
}

impl Default for L2Normalise {
    /// PyTorch's 1e-12.
    fn default() -> Self {
        Self { eps: 1e-12 }
    }
}

impl L2Normalise {
    fn eps(&self) -> Result<f64> {
        match self.eps {
            eps if eps.is_finite() && eps > 0. => Ok(eps),
            eps => bail!("l2_normalise: expected an eps of more than 0, found {eps}"),
        }
    }

    /// The scaling on the tape, over C at each place of (N, H, W, C).
    ///
    /// # Errors
    /// An eps that is not positive.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let (eps, [.., c]) = (self.eps()?, x.shape);
        if let Some(device) = tape.device().cloned() {
            return on_device::l2_normalise(&device, tape, x, eps);
        }
        let mut y = Buffer::scratch(x.host()?.len());
        l2_normalise::forward(x.host()?, c, eps, &mut y);
        let y = tape.map(x.shape, y);
        let (id, input) = (x.id, Arc::clone(x.host()?));
        tape.push(&y, move |mut dy, gradients| {
            l2_normalise::backward(&mut dy, &input, c, eps);
            gradients.add(id, dy);
            Ok(())
        });
        Ok(y)
    }
}

impl Module for L2Normalise {
    /// The scaling on candle's autograd, over dimension 1 of (N, C, ..).
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let [n, c, ref places @ ..] = *xs.dims() else {
            bail!("l2_normalise: expected (N, C, ..), found {:?}", xs.dims());
        };
        xs.contiguous()?.apply_op1(NormaliseOp {
            eps: self.eps()?,
            shape: [n, 1, places.iter().product(), c],
        })
    }
}

/// The scaling on candle's autograd; `shape` is (N, 1, places, C).
struct NormaliseOp {
    eps: f64,
    shape: [usize; 4],
}

impl CustomOp1 for NormaliseOp {
    fn name(&self) -> &'static str {
        "l2_normalise"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = to_channels_last(contiguous(x, layout)?, self.shape);
        let mut y = Buffer::scratch(x.len());
        l2_normalise::forward(&x, self.shape[3], self.eps, &mut y);
        let y = to_channels_first(&y, self.shape);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_values(dy, |dy| to_channels_last(dy, self.shape))?;
        let input = with_values(x, |x| to_channels_last(x, self.shape))?;
        l2_normalise::backward(&mut dx, &input, self.shape[3], self.eps);
        let dx = to_channels_first(&dx, self.shape);
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
