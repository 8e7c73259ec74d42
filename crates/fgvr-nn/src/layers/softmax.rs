//! Softmax.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Module, Result, Shape, Tensor, bail};

use super::{contiguous, on_device};
use crate::kernels::softmax;
use crate::tape::with_values;
use crate::{Activation, Buffer, Tape};

/// exp(x) / sum exp(x), with the largest x taken away first, so that nothing overflows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softmax;

impl Softmax {
    /// The softmax on the tape, over C at each place of (N, H, W, C).
    ///
    /// # Errors
    /// None in practice.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        if let Some(device) = tape.device().cloned() {
            return on_device::softmax(&device, tape, x);
        }
        let [.., c] = x.shape;
        let mut y = Buffer::from_slice(x.host()?);
        softmax::forward(&mut y, c);
        let y = tape.map(x.shape, y);
        let (id, output) = (x.id, Arc::clone(y.host()?));
        tape.push(&y, move |mut dy, gradients| {
            softmax::backward(&mut dy, &output, c);
            gradients.add(id, dy);
            Ok(())
        });
        Ok(y)
    }
}

impl Module for Softmax {
    /// The softmax on candle's autograd, over the last dimension.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match xs.dims().last() {
            Some(c) => xs.contiguous()?.apply_op1(SoftmaxOp(*c)),
            None => bail!("softmax: expected one dimension or more, found a scalar"),
        }
    }
}

/// The softmax on candle's autograd, over rows of this many values.
struct SoftmaxOp(usize);

impl CustomOp1 for SoftmaxOp {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = contiguous(x, layout)?.to_vec();
        softmax::forward(&mut y, self.0);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_values(dy, <[f32]>::to_vec)?;
        with_values(y, |y| softmax::backward(&mut dx, y, self.0))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
