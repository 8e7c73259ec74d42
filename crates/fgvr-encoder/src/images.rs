//! What every network asks of its images.

use candle_core::{Result, Tensor, bail};
use fgvr_nn::{Map, Tape};

/// Puts a non-empty batch of images on the tape.
pub(crate) fn input(tape: &mut Tape, images: &Tensor, wants_gradient: bool) -> Result<Map> {
    shape(images)?;
    tape.input(images, wants_gradient)
}

/// (N, H, W, 3) of a non-empty batch of images (N, 3, H, W).
pub(crate) fn shape(images: &Tensor) -> Result<[usize; 4]> {
    match *images.dims() {
        [n, 3, h, w] if n > 0 && h > 0 && w > 0 => Ok([n, h, w, 3]),
        _ => bail!(
            "encoder: images are {:?}, expected (N, 3, H, W), none of them 0",
            images.dims()
        ),
    }
}
