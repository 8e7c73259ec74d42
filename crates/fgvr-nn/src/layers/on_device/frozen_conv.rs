//! A convolution for inference, with the norm after it folded into it.

use candle_core::{Device as Candle, Result, Tensor, bail};
use fgvr_cuda::ops::elementwise::{self, AfterBias};
use fgvr_cuda::ops::layout::{self, Matrices};
use fgvr_cuda::ops::{Rows, pool};
use fgvr_cuda::{Array, Real};

use super::conv::{Plan, is_depthwise};
use super::places::widened;
use crate::layers::frozen_conv::fold;
use crate::layers::{BatchNorm, Conv2d, Finish};
use crate::{Activation, Device, Tape};

/// The [`FrozenConv`](crate::layers::FrozenConv) of a device, whose weights are copied there once: in the type of
/// maps, rounded after folding. What follows it is one kernel with its bias.
pub struct DeviceConv {
    device: Device,
    /// For its shapes alone.
    conv: Conv2d,
    /// As the plan of its shapes takes it.
    weight: Array,
    /// (O), f32.
    bias: Array,
}

impl DeviceConv {
    pub(in crate::layers) fn new(device: &Device, conv: &Conv2d, norm: &BatchNorm) -> Result<Self> {
        let (weight, bias) = fold(conv, norm)?;
        let (c_out, c_in, kernel, _) = conv.weight().dims4()?;
        let depthwise = is_depthwise(&conv.smallest()?);
        let weight = device.run(|m| {
            let values = Array::from_f32(m, &weight)?;
            if depthwise {
                // (C, k*k) -> (k*k, C)
                let places = Matrices::of_maps([1, c_out, kernel, kernel]);
                layout::to_channels_last(m, &values, places, Real::F32)
            } else {
                // (O, I, k, k) -> (O, k, k, I)
                let places = Matrices::of_weight([c_out, c_in, kernel]);
                layout::to_channels_last(m, &values, places, device.real())
            }
        })?;
        Ok(Self {
            device: device.clone(),
            conv: conv.clone(),
            weight,
            bias: device.run(|m| Array::from_f32(m, &bias))?,
        })
    }

    /// The convolution of `x`, (N, H, W, I), and what follows it: (N, H', W', O).
    ///
    /// # Errors
    /// Another number of channels, an input smaller than the window, a residual of another shape, maps that are
    /// not on a device; what a GPU says.
    pub fn apply(
        &self,
        tape: &mut Tape,
        x: &Activation,
        finish: Finish<&Activation>,
    ) -> Result<Activation> {
        let shape = self.conv.shape(x.shape)?;
        let out = [shape.n, shape.out_h(), shape.out_w(), shape.c_out];
        let (residual, activation) = finish.parts();
        if let Some(residual) = residual
            && residual.shape != out
        {
            bail!(
                "frozen_conv: a residual of {:?} for an output of {out:?} (N, H, W, C)",
                residual.shape
            );
        }
        let after = AfterBias {
            residual: residual.map(Activation::array).transpose()?,
            activation,
        };
        let rows = Rows::new(out[0] * out[1] * out[2], out[3]);
        let plan = Plan::new(&self.device, &shape);
        let y = plan.forward(&self.device, x.array()?, &self.weight)?;
        let y = self
            .device
            .run(|m| elementwise::add_bias(m, &y, rows, &self.bias, after))?;
        Ok(tape.map_on(&self.device, out, y))
    }
}

/// The mean over places of each image of a map on a device, (N, C): f32 whatever the type of the map.
///
/// # Errors
/// A map that is not on a device; what a GPU says.
pub fn mean_of_places(x: &Activation) -> Result<Tensor> {
    let ([n, h, w, c], input) = (x.shape, x.array()?);
    let Some(device) = x.device() else {
        bail!("mean_of_places: expected a map on a device");
    };
    let mean = device.run(|m| pool::global_mean(m, &widened(m, input)?, [n, h * w, c]))?;
    Tensor::from_vec(device.values(&mean)?, (n, c), &Candle::Cpu)
}
