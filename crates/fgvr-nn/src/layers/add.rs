//! The sum of two maps.

use candle_core::{Result, bail};

use crate::kernels::rows;
use crate::{Buffer, Map, Tape};

/// a + b, of one shape: the end of a residual branch without a norm.
///
/// # Errors
/// Two shapes.
pub fn add(tape: &mut Tape, a: &Map, b: &Map) -> Result<Map> {
    if a.shape != b.shape {
        bail!("add: {:?} and {:?} (N, H, W, C) differ", a.shape, b.shape);
    }
    let mut y = Buffer::from_slice(&a.data);
    rows::add(&mut y, &b.data);
    let y = tape.map(a.shape, y);
    let (a, b) = (a.id, b.id);
    tape.push(&y, move |dy, gradients| {
        gradients.add(a, Buffer::from_slice(&dy));
        gradients.add(b, dy);
        Ok(())
    });
    Ok(y)
}
