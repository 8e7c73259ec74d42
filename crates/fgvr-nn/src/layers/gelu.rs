//! GELU (arXiv:1606.08415).

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Module, Result, Shape, Tensor};

use super::{contiguous, on_device};
use crate::kernels::gelu;
use crate::tape::with_values;
use crate::{Activation, Buffer, Tape};

/// x Φ(x) with the normal distribution's Φ itself, not the tanh approximation: PyTorch's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gelu;

impl Gelu {
    /// GELU on the tape.
    ///
    /// # Errors
    /// None in practice.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        if let Some(device) = tape.device().cloned() {
            return on_device::gelu(&device, tape, x);
        }
        let mut y = Buffer::scratch(x.host()?.len());
        gelu::forward(x.host()?, &mut y);
        let y = tape.map(x.shape, y);
        let (id, input) = (x.id, Arc::clone(x.host()?));
        tape.push(&y, move |mut dy, gradients| {
            gelu::backward(&mut dy, &input);
            gradients.add(id, dy);
            Ok(())
        });
        Ok(y)
    }
}

impl Module for Gelu {
    /// GELU on candle's autograd, of any shape.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.contiguous()?.apply_op1(GeluOp)
    }
}

struct GeluOp;

impl CustomOp1 for GeluOp {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(x, layout)?;
        let mut y = vec![0.; x.len()];
        gelu::forward(x, &mut y);
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_values(dy, <[f32]>::to_vec)?;
        with_values(x, |x| gelu::backward(&mut dx, x))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
