//! Rows scaled to a Euclidean length of one, and the gradient.

use rayon::prelude::*;

use super::rows::chunk_len;
use super::simd::{self, simd_fn};
use super::sums::dot;

simd_fn! {
    fn forward_rows(x: &[f32], c: usize, eps: f64, y: &mut [f32]) {
        for (x, y) in x.chunks(c).zip(y.chunks_mut(c)) {
            // Squares in f64: those of 1e-20 and 1e20 are no floats.
            let norm = dot(x, x).sqrt();
            let norm = if norm < eps { eps } else { norm };
            for (y, x) in y.iter_mut().zip(x) {
                *y = (f64::from(*x) / norm) as f32;
            }
        }
    }

    fn backward_rows(dy: &mut [f32], x: &[f32], c: usize, eps: f64) {
        for (dy, x) in dy.chunks_mut(c).zip(x.chunks(c)) {
            let norm = dot(x, x).sqrt();
            // A norm that eps replaces is a constant, also at eps itself, as PyTorch 2.15.
            let (scale, along) = if norm <= eps {
                (1. / eps, 0.)
            } else {
                (1. / norm, dot(dy, x) / (norm * norm))
            };
            for (d, x) in dy.iter_mut().zip(x) {
                *d = ((f64::from(*d) - along * f64::from(*x)) * scale) as f32;
            }
        }
    }
}

/// y = x / max(|x|, eps) for each row of `c` values.
pub fn forward(x: &[f32], c: usize, eps: f64, y: &mut [f32]) {
    let (level, c) = (simd::level(), c.max(1));
    y.par_chunks_mut(chunk_len(c))
        .zip(x.par_chunks(chunk_len(c)))
        .for_each(|(y, x)| forward_rows(level, x, c, eps, y));
}

/// Turns `dy` into the gradient of x: (dy - y (y · dy)) / |x|, or dy / eps where |x| <= eps.
pub fn backward(dy: &mut [f32], x: &[f32], c: usize, eps: f64) {
    let (level, c) = (simd::level(), c.max(1));
    dy.par_chunks_mut(chunk_len(c))
        .zip(x.par_chunks(chunk_len(c)))
        .for_each(|(dy, x)| backward_rows(level, dy, x, c, eps));
}
