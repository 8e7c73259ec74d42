//! Layer scale (arXiv:2103.17239): a weight for each channel of a residual branch.

use std::sync::Arc;

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use super::on_device;
use crate::kernels::rows;
use crate::tape::with_values;
use crate::{Activation, Buffer, Tape};

/// y = gamma x; variable `gamma` (C).
#[derive(Clone, Debug)]
pub struct LayerScale {
    gamma: Tensor,
    channels: usize,
}

impl LayerScale {
    /// A scale over `channels` that starts at `initial` everywhere.
    ///
    /// # Errors
    /// No channels, or a variable that `vb` cannot give.
    pub fn new(channels: usize, initial: f64, vb: VarBuilder) -> Result<Self> {
        if channels == 0 {
            bail!("layer_scale: expected 1 channel or more, found 0");
        }
        Ok(Self {
            gamma: vb.get_with_hints(channels, "gamma", Init::Const(initial))?,
            channels,
        })
    }

    /// The weights (C).
    #[must_use]
    pub fn gamma(&self) -> &Tensor {
        &self.gamma
    }

    /// The scale on the tape, at each place of (N, H, W, C).
    ///
    /// # Errors
    /// Another number of channels.
    pub fn apply(&self, tape: &mut Tape, x: &Activation) -> Result<Activation> {
        let [.., c] = x.shape;
        if c != self.channels {
            bail!(
                "layer_scale: expected {} channels, found {c}",
                self.channels
            );
        }
        if let Some(device) = tape.device().cloned() {
            return on_device::layer_scale(&device, tape, self, x);
        }
        let values = x.host()?;
        let mut y = Buffer::scratch(values.len());
        with_values(&self.gamma, |gamma| rows::scale(values, gamma, &mut y))?;
        let y = tape.map(x.shape, y);
        let (id, input, gamma) = (x.id, Arc::clone(x.host()?), self.gamma.clone());
        tape.push(&y, move |mut dy, gradients| {
            let mut dx = Buffer::scratch(dy.len());
            with_values(&gamma, |gamma| rows::scale(&dy, gamma, &mut dx))?;
            rows::multiply(&mut dy, &input);
            let sums = rows::sum_rows(&dy, c);
            gradients.add_parameter(&gamma, sums.iter().map(|s| *s as f32).collect())?;
            gradients.add(id, dx);
            Ok(())
        });
        Ok(y)
    }
}

impl Module for LayerScale {
    /// The scale on candle's autograd, over the last dimension.
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        xs.broadcast_mul(&self.gamma)
    }
}
