//! The sum of two maps.

use candle_core::{Result, bail};

use super::on_device;
use crate::kernels::rows;
use crate::{Activation, Buffer, Tape};

/// a + b, of one shape: the end of a residual branch without a norm.
///
/// # Errors
/// Two shapes.
pub fn add(tape: &mut Tape, a: &Activation, b: &Activation) -> Result<Activation> {
    if a.shape != b.shape {
        bail!("add: {:?} and {:?} (N, H, W, C) differ", a.shape, b.shape);
    }
    if let Some(device) = tape.device().cloned() {
        return on_device::add(&device, tape, a, b);
    }
    let mut y = Buffer::from_slice(a.host()?);
    rows::add(&mut y, b.host()?);
    let y = tape.map(a.shape, y);
    let [a, b] = [a, b].map(|map| tape.needs_gradient(map).then_some(map.id));
    tape.push(&y, move |dy, gradients| {
        match (a, b) {
            (Some(a), Some(b)) => {
                gradients.add(a, Buffer::from_slice(&dy));
                gradients.add(b, dy);
            }
            (one, other) => {
                if let Some(id) = one.or(other) {
                    gradients.add(id, dy);
                }
            }
        }
        Ok(())
    });
    Ok(y)
}
