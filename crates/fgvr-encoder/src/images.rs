//! What every network asks of its images.

use candle_core::{Result, Tensor, bail};
use fgvr_nn::{Map, Tape};

/// Puts a non-empty batch of images on the tape.
pub(crate) fn input(tape: &mut Tape, images: &Tensor, wants_gradient: bool) -> Result<Map> {
    shape(images)?;
    tape.input(images, wants_gradient)
}

/// That a map (N, H, W, C) is of a non-empty batch of images.
pub(crate) fn check(shape: [usize; 4]) -> Result<()> {
    if shape[3] != 3 || shape.contains(&0) {
        bail!("encoder: images are {shape:?}, expected (N, H, W, 3), none of them 0");
    }
    Ok(())
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
