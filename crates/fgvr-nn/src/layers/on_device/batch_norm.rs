//! Batch norm where no convolution stands before it.

use candle_core::Result;
use fgvr_cuda::ops::ActivationFunction;
use fgvr_cuda::ops::batch_norm::{Mask, Residual};

use crate::layers::{After, BatchNorm};
use crate::{Activation, Device, NormMode, Tape};

pub(in crate::layers) fn batch_norm(
    device: &Device,
    tape: &mut Tape,
    layer: &BatchNorm,
    x: &Activation,
    mode: NormMode,
    after: After<'_>,
) -> Result<Activation> {
    let (After { relu, residual }, activation) = (after, after.activation());
    let input = x.array()?.clone();
    let norm = layer.on_device(device, &input, x.shape, mode)?;
    let added = match residual {
        None => Residual::None,
        Some(map) => Residual::Map(map.array()?),
    };
    let output = device.run(|m| norm.apply(m, &input, added, activation))?;
    let y = tape.map_on(device, x.shape, output.clone());
    let (id, residual) = (x.id, residual.map(|map| map.id));
    let (device, parameters) = (device.clone(), layer.parameters());
    tape.push_on(&y, move |dy, gradients| {
        let mask = match (relu, residual) {
            (true, Some(_)) => Mask::Output(&output),
            _ => Mask::Recompute(activation),
        };
        let kept = match residual {
            None => None,
            Some(_) => Some(device.map(dy.len())?),
        };
        let of_norm = device.run(|m| norm.gradients(m, &dy, &input, mask, kept.as_ref()))?;
        if let Some((weight, bias)) = &parameters {
            gradients.add_parameter_array(weight, of_norm.weight.clone());
            gradients.add_parameter_array(bias, of_norm.bias.clone());
        }
        let masked = kept.as_ref().unwrap_or(&dy);
        // What is masked already needs no mask.
        let left = match mask {
            Mask::Recompute(activation) => activation,
            Mask::Output(_) => ActivationFunction::Identity,
        };
        let dx = device.run(|m| norm.grad_input(m, masked, &input, &of_norm, left))?;
        gradients.add_array(id, dx)?;
        match (residual, kept) {
            (Some(id), Some(kept)) => gradients.add_array(id, kept),
            _ => Ok(()),
        }
    });
    Ok(y)
}
