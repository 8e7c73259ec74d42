//! The way back of a layer of one input and without variables.

use candle_core::Result;
use fgvr_cuda::{Array, Machine};

use crate::{Activation, Device, Tape};

/// The values `y` of a layer whose one input is `x` as a map of `shape`, (N, H, W, C). `backward` makes the gradient at
/// `x` from that at the output.
pub(super) fn unary(
    device: &Device,
    tape: &mut Tape,
    x: &Activation,
    shape: [usize; 4],
    y: Array,
    backward: impl FnOnce(&dyn Machine, &Array) -> fgvr_cuda::Result<Array> + Send + 'static,
) -> Result<Activation> {
    let y = tape.map_on(device, shape, y);
    let (id, device) = (x.id, device.clone());
    tape.push_on(&y, move |dy, gradients| {
        let dx = device.run(|m| backward(m, &dy))?;
        gradients.add_array(id, dx)
    });
    Ok(y)
}
