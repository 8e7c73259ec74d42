//! ReLU and ReLU6, and a vector as a map.

use std::sync::Arc;

use candle_core::{Result, bail};

use super::{elements, on_device};
use crate::kernels::activation::ActivationFunction;
use crate::kernels::rows;
use crate::tape::{to_channels_first, to_channels_last};
use crate::{Activation, Buffer, Tape};

/// max(x, 0). The gradient at exactly 0 is 0, as PyTorch.
///
/// # Errors
/// None in practice.
pub fn relu(tape: &mut Tape, x: &Activation) -> Result<Activation> {
    activate(tape, x, ActivationFunction::Relu)
}

/// min(max(x, 0), 6). The gradient at exactly 0 and 6 is 0, as PyTorch.
///
/// After a norm that follows a convolution, [`Normed::activate`](super::Normed::activate) and
/// [`ConvInput::Relu6`](super::ConvInput::Relu6) do the same in fewer trips to memory.
///
/// # Errors
/// None in practice.
pub fn relu6(tape: &mut Tape, x: &Activation) -> Result<Activation> {
    activate(tape, x, ActivationFunction::Relu6)
}

fn activate(tape: &mut Tape, x: &Activation, activation: ActivationFunction) -> Result<Activation> {
    if let Some(device) = tape.device().cloned() {
        return on_device::activate(&device, tape, x, activation);
    }
    let mut y = Buffer::scratch(x.host()?.len());
    rows::activate(x.host()?, activation, &mut y);
    let y = tape.map(x.shape, y);
    let (id, output) = (x.id, Arc::clone(y.host()?));
    tape.push(&y, move |mut dy, gradients| {
        rows::activate_grad(&mut dy, &output, activation);
        gradients.add(id, dy);
        Ok(())
    });
    Ok(y)
}

/// A map of one place (N, 1, 1, c*h*w) as PyTorch's `view(N, c, h, w)`.
///
/// # Errors
/// A map of more than one place, or of another number of channels than c*h*w.
pub fn unflatten(
    tape: &mut Tape,
    x: &Activation,
    (c, h, w): (usize, usize, usize),
) -> Result<Activation> {
    let [n, rows, columns, width] = x.shape;
    if (rows, columns, width) != (1, 1, elements("unflatten", [1, h, w, c])?) {
        let found = &x.shape[1..];
        bail!(
            "unflatten: expected one place of {c} x {h} x {w} channels, found {found:?} (H, W, C)"
        );
    }
    let shape = [n, h, w, c];
    if let Some(device) = tape.device().cloned() {
        return on_device::unflatten(&device, tape, x, shape);
    }
    // (N, c*h*w) -> (N, h, w, c)
    let y = tape.map(shape, to_channels_last(x.host()?, shape));
    let id = x.id;
    tape.push(&y, move |dy, gradients| {
        gradients.add(id, Buffer::from_slice(&to_channels_first(&dy, shape)));
        Ok(())
    });
    Ok(y)
}
