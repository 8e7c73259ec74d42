//! A convolution.

use candle_core::{Result, Tensor};
use fgvr_cuda::ops::elementwise::{self, AfterBias};
use fgvr_cuda::ops::{Rows, layout};
use fgvr_cuda::{Array, Convolution, Pass};

use crate::kernels::conv::ConvShape;
use crate::layers::Conv2d;
use crate::tape::Gradients;
use crate::{Device, Map, Tape};

/// A convolution's shape, weight (O, k, k, I) and variable.
pub(super) struct Held {
    shape: Convolution,
    values: Array,
    variable: Tensor,
}

/// What is asked of `device`.
pub(super) fn convolution(device: &Device, s: &ConvShape) -> Convolution {
    Convolution {
        n: s.n,
        h: s.h,
        w: s.w,
        c_in: s.c_in,
        c_out: s.c_out,
        kernel: s.kernel,
        stride: s.stride,
        padding: s.padding,
        dilation: s.dilation,
        groups: s.groups,
        real: device.real(),
    }
}

impl Held {
    pub(super) fn new(device: &Device, layer: &Conv2d, s: &ConvShape) -> Result<Self> {
        Ok(Self {
            shape: convolution(device, s),
            values: device.convolution_weight(layer.weight())?,
            variable: layer.weight().clone(),
        })
    }

    /// y of x.
    pub(super) fn forward(&self, device: &Device, x: &Array) -> Result<Array> {
        let y = device.map(self.shape.output_len())?;
        device.run(|m| m.convolve(&self.shape, Pass::Forward, [x, &self.values, &y]))?;
        Ok(y)
    }

    /// dx of dy.
    pub(super) fn grad_input(&self, device: &Device, dy: &Array) -> Result<Array> {
        let dx = device.map(self.shape.input_len())?;
        device.run(|m| m.convolve(&self.shape, Pass::GradInput, [&dx, &self.values, dy]))?;
        Ok(dx)
    }

    /// Adds the variable's gradient.
    pub(super) fn grad_weight(
        &self,
        device: &Device,
        x: &Array,
        dy: &Array,
        gradients: &mut Gradients<'_>,
    ) -> Result<()> {
        let dw = device.map(self.shape.weight_len())?;
        // (O, k, k, I) -> (O, I, k, k)
        let (c_out, c_in, kernel, _) = self.variable.dims4()?;
        let places = layout::Matrices::of_weight([c_out, c_in, kernel]);
        let dw = device.run(|m| {
            m.convolve(&self.shape, Pass::GradWeight, [x, &dw, dy])?;
            layout::to_channels_first(m, &dw, places)
        })?;
        gradients.add_parameter_array(&self.variable, dw);
        Ok(())
    }
}

pub(in crate::layers) fn conv2d(
    device: &Device,
    tape: &mut Tape,
    (layer, shape): (&Conv2d, &ConvShape),
    x: &Map,
) -> Result<Map> {
    let conv = Held::new(device, layer, shape)?;
    let out = [shape.n, shape.out_h(), shape.out_w(), shape.c_out];
    let rows = Rows::new(out[0] * out[1] * out[2], out[3]);
    let mut y = conv.forward(device, x.array()?)?;
    if let Some(bias) = layer.bias() {
        let bias = device.parameter(bias)?;
        let after = AfterBias {
            residual: None,
            relu: false,
        };
        y = device.run(|m| elementwise::add_bias(m, &y, rows, &bias, after))?;
    }
    let y = tape.map_on(device, out, y);
    let (id, input, wants_input) = (x.id, x.array()?.clone(), tape.needs_gradient(x));
    let (device, bias) = (device.clone(), layer.bias().cloned());
    tape.push_on(&y, move |dy, gradients| {
        if let Some(bias) = &bias {
            let sums = device.run(|m| elementwise::sum_rows(m, &dy, rows))?;
            gradients.add_parameter_array(bias, sums);
        }
        conv.grad_weight(&device, &input, &dy, gradients)?;
        if wants_input {
            let dx = conv.grad_input(&device, &dy)?;
            gradients.add_array(id, dx)?;
        }
        Ok(())
    });
    Ok(y)
}
