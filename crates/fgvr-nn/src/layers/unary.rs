//! The way back of a layer of one input and without variables.

use candle_core::Result;

use crate::{Activation, Buffer, Tape};

/// The values `y` of a layer whose one input is `x` as a map of `shape`, (N, H, W, C). `backward` fills the gradient at
/// `x`, its second argument, from that at the output.
pub(super) fn unary(
    tape: &mut Tape,
    x: &Activation,
    shape: [usize; 4],
    y: Buffer,
    backward: impl FnOnce(&[f32], &mut [f32]) + Send + 'static,
) -> Result<Activation> {
    let y = tape.map(shape, y);
    let (id, len) = (x.id, x.host()?.len());
    tape.push(&y, move |dy, gradients| {
        let mut dx = Buffer::scratch(len);
        backward(&dy, &mut dx);
        gradients.add(id, dx);
        Ok(())
    });
    Ok(y)
}
