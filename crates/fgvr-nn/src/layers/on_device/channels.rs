//! What works on the channels of each place, or on each value.

use candle_core::Result;
use fgvr_cuda::ops::{Rows, elementwise, gelu, l2_normalise, layer_norm, softmax};

use super::unary::unary;
use crate::layers::{LayerNorm, LayerScale};
use crate::{Activation, Device, Tape};

/// Places of (N, H, W, C).
fn places(x: &Activation) -> Rows {
    let [n, h, w, c] = x.shape;
    Rows::new(n * h * w, c)
}

pub(in crate::layers) fn layer_norm(
    device: &Device,
    tape: &mut Tape,
    layer: &LayerNorm,
    x: &Activation,
) -> Result<Activation> {
    let (input, rows) = (x.array()?.clone(), places(x));
    let weight = device.parameter(layer.weight())?;
    let bias = device.parameter(layer.bias())?;
    let (y, kept) =
        device.run(|m| layer_norm::forward(m, &input, rows, [&weight, &bias], layer.eps()))?;
    let y = tape.map_on(device, x.shape, y);
    let (id, device) = (x.id, device.clone());
    let (of_weight, of_bias) = (layer.weight().clone(), layer.bias().clone());
    tape.push_on(&y, move |dy, gradients| {
        let made = device.run(|m| layer_norm::backward(m, &dy, &input, rows, &weight, &kept))?;
        gradients.add_parameter_array(&of_weight, made.weight);
        gradients.add_parameter_array(&of_bias, made.bias);
        gradients.add_array(id, made.x)
    });
    Ok(y)
}

pub(in crate::layers) fn layer_scale(
    device: &Device,
    tape: &mut Tape,
    layer: &LayerScale,
    x: &Activation,
) -> Result<Activation> {
    let (input, rows) = (x.array()?.clone(), places(x));
    let gamma = device.parameter(layer.gamma())?;
    let y = device.run(|m| elementwise::layer_scale(m, &input, rows, &gamma))?;
    let y = tape.map_on(device, x.shape, y);
    let (id, device, of_gamma) = (x.id, device.clone(), layer.gamma().clone());
    tape.push_on(&y, move |dy, gradients| {
        let (dx, sums) =
            device.run(|m| elementwise::layer_scale_grad(m, &dy, &input, rows, &gamma))?;
        gradients.add_parameter_array(&of_gamma, sums);
        gradients.add_array(id, dx)
    });
    Ok(y)
}

pub(in crate::layers) fn gelu(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
) -> Result<Activation> {
    let input = x.array()?.clone();
    let y = device.run(|m| gelu::forward(m, &input))?;
    unary(device, tape, x, x.shape, y, move |m, dy| {
        gelu::backward(m, dy, &input)
    })
}

pub(in crate::layers) fn softmax(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
) -> Result<Activation> {
    let (input, rows) = (x.array()?, places(x));
    let output = device.run(|m| softmax::forward(m, input, rows))?;
    unary(device, tape, x, x.shape, output.clone(), move |m, dy| {
        softmax::backward(m, dy, &output, rows)
    })
}

/// `eps` is more than 0.
pub(in crate::layers) fn l2_normalise(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    eps: f64,
) -> Result<Activation> {
    let (input, rows) = (x.array()?.clone(), places(x));
    let y = device.run(|m| l2_normalise::forward(m, &input, rows, eps))?;
    unary(device, tape, x, x.shape, y, move |m, dy| {
        l2_normalise::backward(m, dy, &input, rows, eps)
    })
}
