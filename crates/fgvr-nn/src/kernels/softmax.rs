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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::Level;

    #[test]
    fn rows_have_the_same_bits_at_every_level() {
        let x: Vec<f32> = (0..3 * 1037)
            .map(|i| (i as f32 * 0.37).sin() * 9.)
            .collect();
        let run = |level| {
            let (mut y, mut dy) = (x.clone(), x.clone());
            forward_rows(level, &mut y, 1037);
            backward_rows(level, &mut dy, &y, 1037);
            [y, dy].map(|v| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        };
        for level in Level::available() {
            assert_eq!(run(level), run(Level::Portable), "{level:?}");
        }
    }
}
