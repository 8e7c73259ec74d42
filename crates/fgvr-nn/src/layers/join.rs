//! Two vectors of each image as one.

use candle_core::{Result, bail};

use super::on_device;
use crate::{Activation, Buffer, Tape};

/// The channels of `a` (N, 1, 1, C), then those of `b` (N, 1, 1, C): (N, 1, 1, 2C).
///
/// # Errors
/// Maps of two shapes, or of more than one place.
pub fn join_vectors(tape: &mut Tape, a: &Activation, b: &Activation) -> Result<Activation> {
    let [n, h, w, c] = a.shape;
    if a.shape != b.shape || (h, w) != (1, 1) {
        bail!(
            "join_vectors: {:?} and {:?}, expected the same (N, 1, 1, C) twice",
            a.shape,
            b.shape
        );
    }
    if let Some(device) = tape.device().cloned() {
        return on_device::join_vectors(&device, tape, a, b);
    }
    let mut y = Buffer::scratch(2 * n * c);
    let parts = a.host()?.chunks(c.max(1)).zip(b.host()?.chunks(c.max(1)));
    for (y, (a, b)) in y.chunks_mut((2 * c).max(1)).zip(parts) {
        y[..c].copy_from_slice(a);
        y[c..].copy_from_slice(b);
    }
    let y = tape.map([n, 1, 1, 2 * c], y);
    let ids = [a.id, b.id];
    tape.push(&y, move |dy, gradients| {
        for (i, id) in ids.into_iter().enumerate() {
            let mut dx = Buffer::scratch(n * c);
            for (dx, dy) in dx.chunks_mut(c.max(1)).zip(dy.chunks((2 * c).max(1))) {
                dx.copy_from_slice(&dy[i * c..(i + 1) * c]);
            }
            gradients.add(id, dx);
        }
        Ok(())
    });
    Ok(y)
}
