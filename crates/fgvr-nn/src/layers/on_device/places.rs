//! Layers without variables: pools, resizes, sums, shapes.

use candle_core::Result;
use fgvr_cuda::ops::layout::{self, Matrices};
use fgvr_cuda::ops::pool::{self, Pool};
use fgvr_cuda::ops::resize::{self, Resize};
use fgvr_cuda::ops::{ActivationFunction, elementwise};
use fgvr_cuda::{Array, DType};

use super::unary::unary;
use crate::kernels::pool::PoolShape;
use crate::{Activation, Device, Tape};

fn pooling(shape: &PoolShape) -> Pool {
    Pool {
        input: shape.input,
        kernel: shape.kernel,
        stride: shape.stride,
        padding: shape.padding,
    }
}

pub(in crate::layers) fn max_pool(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    shape: &PoolShape,
) -> Result<Activation> {
    let pool = pooling(shape);
    let input = x.array()?;
    let (y, taps) = device.run(|m| pool::max(m, input, &pool))?;
    unary(device, tape, x, shape.output(), y, move |m, dy| {
        pool::max_grad(m, dy, &taps, &pool)
    })
}

pub(in crate::layers) fn avg_pool(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    shape: &PoolShape,
) -> Result<Activation> {
    let pool = pooling(shape);
    let input = x.array()?;
    let y = device.run(|m| pool::average(m, input, &pool))?;
    unary(device, tape, x, shape.output(), y, move |m, dy| {
        pool::average_grad(m, dy, &pool)
    })
}

pub(in crate::layers) fn global_mean(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
) -> Result<Activation> {
    let [n, h, w, c] = x.shape;
    let shape = [n, h * w, c];
    let input = x.array()?;
    let y = device.run(|m| pool::global_mean(m, input, shape))?;
    unary(device, tape, x, [n, 1, 1, c], y, move |m, dy| {
        pool::global_mean_grad(m, dy, shape)
    })
}

pub(in crate::layers) fn upsample_nearest(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    factor: usize,
) -> Result<Activation> {
    let shape = x.shape;
    let [n, h, w, c] = shape;
    let input = x.array()?;
    let y = device.run(|m| resize::nearest(m, input, shape, factor))?;
    unary(
        device,
        tape,
        x,
        [n, h * factor, w * factor, c],
        y,
        move |m, dy| resize::nearest_grad(m, dy, shape, factor),
    )
}

pub(in crate::layers) fn resize_bilinear(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    to: (usize, usize),
) -> Result<Activation> {
    let resize = Resize { input: x.shape, to };
    let input = x.array()?;
    let y = device.run(|m| resize::bilinear(m, input, &resize))?;
    let [n, _, _, c] = x.shape;
    unary(device, tape, x, [n, to.0, to.1, c], y, move |m, dy| {
        resize::bilinear_grad(m, dy, &resize)
    })
}

pub(in crate::layers) fn add(
    device: &Device,
    tape: &mut Tape,
    a: &Activation,
    b: &Activation,
) -> Result<Activation> {
    let (of_a, of_b) = (a.array()?, b.array()?);
    let y = device.run(|m| {
        let y = elementwise::scale(m, of_a, 1.)?;
        elementwise::add_to(m, &y, of_b)?;
        Ok(y)
    })?;
    let y = tape.map_on(device, a.shape, y);
    let to = [a, b].map(|map| tape.needs_gradient(map).then_some(map.id));
    tape.push_on(&y, move |dy, gradients| {
        let mut to = to.into_iter().flatten();
        to.try_for_each(|id| gradients.add_array(id, dy.clone()))
    });
    Ok(y)
}

pub(in crate::layers) fn activate(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    activation: ActivationFunction,
) -> Result<Activation> {
    let input = x.array()?;
    let output = device.run(|m| elementwise::activate(m, input, activation))?;
    unary(device, tape, x, x.shape, output.clone(), move |m, dy| {
        elementwise::activate_grad(m, dy, &output, activation)
    })
}

/// (N, 1, 1, c*h*w) as `shape` (N, h, w, c), channels first in the one place.
pub(in crate::layers) fn unflatten(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    shape: [usize; 4],
) -> Result<Activation> {
    let [n, h, w, c] = shape;
    let places = Matrices::of_maps([n, c, h, w]);
    let real = device.real();
    let input = x.array()?;
    let y = device.run(|m| layout::to_channels_last(m, &widened(m, input)?, places, real))?;
    let y = tape.map_on(device, shape, y);
    let (id, device) = (x.id, device.clone());
    tape.push_on(&y, move |dy, gradients| {
        let dx = device.run(|m| {
            let dx = layout::to_channels_first(m, &dy, places)?;
            match DType::from(real) {
                DType::F32 => Ok(dx),
                dtype => layout::cast(m, &dx, dtype),
            }
        })?;
        gradients.add_array(id, dx)
    });
    Ok(y)
}

/// The values as f32.
pub(super) fn widened(machine: &dyn fgvr_cuda::Machine, x: &Array) -> fgvr_cuda::Result<Array> {
    match x.dtype() {
        DType::F32 => Ok(x.clone()),
        _ => layout::cast(machine, x, DType::F32),
    }
}
