//! Nearest and bilinear resizing.

use candle_core::{Result, bail};

use super::unary::unary;
use super::{elements, on_device};
use crate::kernels::resize;
use crate::{Activation, Buffer, Tape};

/// Each place repeated `factor` times along both sides.
///
/// # Errors
/// A factor of zero, or one that memory cannot hold.
pub fn upsample_nearest(tape: &mut Tape, x: &Activation, factor: usize) -> Result<Activation> {
    if factor == 0 {
        bail!("upsample_nearest: expected a factor of 1 or more, found 0");
    }
    let shape = x.shape;
    let [n, h, w, c] = shape;
    let out = [n, h.saturating_mul(factor), w.saturating_mul(factor), c];
    let len = elements("upsample_nearest", out)?;
    if let Some(device) = tape.device().cloned() {
        return on_device::upsample_nearest(&device, tape, x, factor);
    }
    let mut y = Buffer::scratch(len);
    resize::nearest(x.host()?, shape, factor, &mut y);
    unary(tape, x, out, y, move |dy, dx| {
        resize::nearest_grad(dy, shape, factor, dx)
    })
}

/// Bilinear resizing to `size` = (h, w), PyTorch's `interpolate(mode="bilinear",
/// align_corners=False, antialias=False)`.
///
/// # Errors
/// A side of zero, before or after, or a size that memory cannot hold.
pub fn resize_bilinear(
    tape: &mut Tape,
    x: &Activation,
    size: (usize, usize),
) -> Result<Activation> {
    let shape = x.shape;
    let [n, h, w, c] = shape;
    if [h, w, size.0, size.1].contains(&0) {
        bail!(
            "resize_bilinear: {h} x {w} to {} x {}: a side is zero",
            size.0,
            size.1
        );
    }
    let out = [n, size.0, size.1, c];
    let len = elements("resize_bilinear", out)?;
    if let Some(device) = tape.device().cloned() {
        return on_device::resize_bilinear(&device, tape, x, size);
    }
    let mut y = Buffer::scratch(len);
    resize::bilinear(x.host()?, shape, size, &mut y);
    unary(tape, x, out, y, move |dy, dx| {
        resize::bilinear_grad(dy, shape, size, dx)
    })
}
