//! What every [`Encoder`](crate::Encoder) asks of its images.

use candle_core::{Result, Tensor, bail};

use crate::{Activation, Tape};

/// Puts a non-empty batch of images (N, 3, H, W) on the tape; with `wants_gradient`, as [`Tape::input`].
///
/// # Errors
/// A tensor of another shape, or one that is not f32 on the CPU.
pub fn input(tape: &mut Tape, images: &Tensor, wants_gradient: bool) -> Result<Activation> {
    shape(images)?;
    tape.input(images, wants_gradient)
}

/// That the shape of a map, (N, H, W, C), is that of a non-empty batch of images.
///
/// # Errors
/// Another number of channels than 3, or a side of 0.
pub fn check(shape: [usize; 4]) -> Result<()> {
    if shape[3] != 3 || shape.contains(&0) {
        bail!("encoder: images are {shape:?}, expected (N, H, W, 3), none of them 0");
    }
    Ok(())
}

/// (N, H, W, 3) of a non-empty batch of images (N, 3, H, W).
///
/// # Errors
/// A tensor of another shape.
pub fn shape(images: &Tensor) -> Result<[usize; 4]> {
    match *images.dims() {
        [n, 3, h, w] if n > 0 && h > 0 && w > 0 => Ok([n, h, w, 3]),
        _ => bail!(
            "encoder: images are {:?}, expected (N, 3, H, W), none of them 0",
            images.dims()
        ),
    }
}
