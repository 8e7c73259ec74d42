//! A convolution.

use candle_core::{Result, Tensor};
use fgvr_cuda::ops::Rows;
use fgvr_cuda::ops::depthwise::{self, Depthwise};
use fgvr_cuda::ops::elementwise::{self, AfterBias};
use fgvr_cuda::ops::layout::{self, Matrices};
use fgvr_cuda::ops::pad::{self, Border};
use fgvr_cuda::{Array, Convolution, Pass};

use crate::kernels::conv::{ConvShape, Padding};
use crate::layers::Conv2d;
use crate::tape::Gradients;
use crate::{Activation, Device, Tape};

/// A convolution as a device runs it.
pub(super) enum Plan {
    /// By kernels of our own, with weights (k*k, C) of f32.
    Depthwise(Depthwise),
    /// By a library, with weights (O, k, k, I/groups) of the type of maps, and a border of zeros that it
    /// cannot add by itself, since they are not the same on each side.
    Library(Convolution, Option<Border>),
}

impl Plan {
    pub(super) fn new(device: &Device, s: &ConvShape) -> Self {
        let Padding {
            top,
            left,
            bottom,
            right,
        } = s.padding;
        if is_depthwise(s) {
            return Self::Depthwise(Depthwise {
                input: [s.n, s.h, s.w, s.c_in],
                output: [s.out_h(), s.out_w()],
                kernel: s.kernel,
                stride: s.stride,
                top,
                left,
            });
        }
        let shape = |h: usize, w: usize, padding: usize| Convolution {
            n: s.n,
            h,
            w,
            c_in: s.c_in,
            c_out: s.c_out,
            kernel: s.kernel,
            stride: s.stride,
            padding,
            dilation: s.dilation,
            groups: s.groups,
            real: device.real(),
        };
        if let Some(padding) = s.padding.on_each_side() {
            return Self::Library(shape(s.h, s.w, padding), None);
        }
        let border = Border {
            inner: [s.n, s.h, s.w, s.c_in],
            top,
            left,
            bottom,
            right,
        };
        let [_, h, w, _] = border.outer();
        Self::Library(shape(h, w, 0), Some(border))
    }

    /// The weight of `layer` as [`Plan::forward`] takes it.
    fn weight(&self, device: &Device, layer: &Conv2d) -> Result<Array> {
        match self {
            Self::Depthwise(_) => device.depthwise_weight(layer.weight()),
            Self::Library(..) => device.convolution_weight(layer.weight()),
        }
    }

    /// y of x.
    pub(super) fn forward(&self, device: &Device, x: &Array, weight: &Array) -> Result<Array> {
        match self {
            Self::Depthwise(shape) => device.run(|m| depthwise::forward(m, x, weight, shape)),
            Self::Library(shape, border) => {
                let x = with_border(device, border.as_ref(), x)?;
                let y = device.map(shape.output_len())?;
                device.run(|m| m.convolve(shape, Pass::Forward, [&x, weight, &y]))?;
                Ok(y)
            }
        }
    }

    /// dx of dy.
    fn grad_input(&self, device: &Device, weight: &Array, dy: &Array) -> Result<Array> {
        match self {
            Self::Depthwise(shape) => device.run(|m| depthwise::grad_input(m, dy, weight, shape)),
            Self::Library(shape, border) => {
                let dx = device.map(shape.input_len())?;
                device.run(|m| m.convolve(shape, Pass::GradInput, [&dx, weight, dy]))?;
                match border {
                    None => Ok(dx),
                    Some(border) => device.run(|m| pad::crop(m, &dx, border)),
                }
            }
        }
    }

    /// dw (O, I/groups, k, k) of x and dy; `weight` has these dims.
    fn grad_weight(
        &self,
        device: &Device,
        x: &Array,
        dy: &Array,
        weight: &Tensor,
    ) -> Result<Array> {
        let (c_out, c_in, kernel, _) = weight.dims4()?;
        match self {
            Self::Depthwise(shape) => device.run(|m| {
                let dw = depthwise::grad_weight(m, x, dy, shape)?;
                // (k*k, C) -> (C, k*k)
                layout::to_channels_first(m, &dw, Matrices::of_maps([1, c_out, kernel, kernel]))
            }),
            Self::Library(shape, border) => {
                let x = with_border(device, border.as_ref(), x)?;
                let dw = device.map(shape.weight_len())?;
                device.run(|m| {
                    m.convolve(shape, Pass::GradWeight, [&x, &dw, dy])?;
                    // (O, k, k, I) -> (O, I, k, k)
                    layout::to_channels_first(m, &dw, Matrices::of_weight([c_out, c_in, kernel]))
                })
            }
        }
    }
}

/// Whether there are kernels of our own for `s`, the depthwise ones.
pub(super) fn is_depthwise(s: &ConvShape) -> bool {
    s.is_depthwise() && Depthwise::KERNELS.contains(&s.kernel) && s.dilation == 1
}

fn with_border(device: &Device, border: Option<&Border>, x: &Array) -> Result<Array> {
    match border {
        None => Ok(x.clone()),
        Some(border) => device.run(|m| pad::pad(m, x, border)),
    }
}

/// A convolution, its weight as it takes it, and variable.
pub(super) struct Held {
    plan: Plan,
    values: Array,
    variable: Tensor,
}

impl Held {
    pub(super) fn new(device: &Device, layer: &Conv2d, s: &ConvShape) -> Result<Self> {
        let plan = Plan::new(device, s);
        Ok(Self {
            values: plan.weight(device, layer)?,
            plan,
            variable: layer.weight().clone(),
        })
    }

    /// y of x.
    pub(super) fn forward(&self, device: &Device, x: &Array) -> Result<Array> {
        self.plan.forward(device, x, &self.values)
    }

    /// dx of dy.
    pub(super) fn grad_input(&self, device: &Device, dy: &Array) -> Result<Array> {
        self.plan.grad_input(device, &self.values, dy)
    }

    /// Adds the variable's gradient.
    pub(super) fn grad_weight(
        &self,
        device: &Device,
        x: &Array,
        dy: &Array,
        gradients: &mut Gradients<'_>,
    ) -> Result<()> {
        let dw = self.plan.grad_weight(device, x, dy, &self.variable)?;
        gradients.add_parameter_array(&self.variable, dw);
        Ok(())
    }
}

pub(in crate::layers) fn conv2d(
    device: &Device,
    tape: &mut Tape,
    (layer, shape): (&Conv2d, &ConvShape),
    x: &Activation,
) -> Result<Activation> {
    let conv = Held::new(device, layer, shape)?;
    let out = [shape.n, shape.out_h(), shape.out_w(), shape.c_out];
    let rows = Rows::new(out[0] * out[1] * out[2], out[3]);
    let mut y = conv.forward(device, x.array()?)?;
    if let Some(bias) = layer.bias() {
        let bias = device.parameter(bias)?;
        let after = AfterBias::default();
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
