//! Between candle's (N, C, H, W) and the channels-last (N, H, W, C) of a tape.

use candle_core::{Result, Storage, Tensor, bail};
use rayon::prelude::*;

use crate::Buffer;

/// Runs `f` over the values of an f32 tensor on the CPU, in the order of its shape.
pub(crate) fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!(
            "expected a tensor on the CPU, found one on {:?}",
            tensor.device()
        );
    };
    let start = layout.start_offset();
    Ok(f(
        &storage.as_slice::<f32>()?[start..start + tensor.elem_count()]
    ))
}

/// (N, C, H, W) values into a channels-last buffer of `shape` (N, H, W, C).
pub(crate) fn to_channels_last(values: &[f32], [_, h, w, c]: [usize; 4]) -> Buffer {
    let mut out = Buffer::scratch(values.len());
    let places = h * w;
    out.par_chunks_mut((places * c).max(1))
        .zip(values.par_chunks((places * c).max(1)))
        .for_each(|(out, image)| transpose(image, out, c, places));
    out
}

/// Channels-last values of `shape` (N, H, W, C) as (N, C, H, W).
pub(crate) fn to_channels_first(values: &[f32], [_, h, w, c]: [usize; 4]) -> Vec<f32> {
    let mut out = vec![0.; values.len()];
    let places = h * w;
    out.par_chunks_mut((places * c).max(1))
        .zip(values.par_chunks((places * c).max(1)))
        .for_each(|(out, image)| transpose(image, out, places, c));
    out
}

/// `from` (rows, columns) into `to` (columns, rows).
fn transpose(from: &[f32], to: &mut [f32], rows: usize, columns: usize) {
    for r in 0..rows {
        for (column, value) in from[r * columns..][..columns].iter().enumerate() {
            to[column * rows + r] = *value;
        }
    }
}
