//! Softmax over rows, and its gradient.

use rayon::prelude::*;

use super::exp::exp;
use super::rows::chunk_len;
use super::simd::{self, simd_fn};
use super::sums::{largest, sum, sum_pairs};

simd_fn! {
    /// Rows of `c` values, in place: y = exp(x - max x) / sum exp(x - max x).
    pub(super) fn forward_rows(y: &mut [f32], c: usize) {
        for y in y.chunks_mut(c) {
            let top = largest(y);
            for y in &mut *y {
                *y = exp(*y - top);
            }
            let share = (1. / sum(y, |y| y)) as f32;
            for y in y {
                *y *= share;
            }
        }
    }

    /// Rows of `c` values, in place: dx = y (dy - sum dy y).
    pub(super) fn backward_rows(dy: &mut [f32], y: &[f32], c: usize) {
        for (dy, y) in dy.chunks_mut(c).zip(y.chunks(c)) {
            let mean = sum_pairs(dy, y, |d, y| d * y) as f32;
            for (d, y) in dy.iter_mut().zip(y) {
                *d = y * (*d - mean);
            }
        }
    }
}

/// The softmax of each row of `c` values, in place. A row of equal values gets equal shares; one
/// with NaN, with +infinity, or with -infinity alone becomes NaN, as PyTorch.
pub fn forward(y: &mut [f32], c: usize) {
    let level = simd::level();
    y.par_chunks_mut(chunk_len(c.max(1)))
        .for_each(|y| forward_rows(level, y, c.max(1)));
}

/// Turns `dy` into the gradient of the softmax's input, from the softmax's output `y`.
pub fn backward(dy: &mut [f32], y: &[f32], c: usize) {
    let (level, c) = (simd::level(), c.max(1));
    dy.par_chunks_mut(chunk_len(c))
        .zip(y.par_chunks(chunk_len(c)))
        .for_each(|(dy, y)| backward_rows(level, dy, y, c));
}
