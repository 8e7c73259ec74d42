//! Layer norm over rows of channels (arXiv:1607.06450): y = (x - mean) / std * weight + bias, with
//! the row's own mean and standard deviation, and its gradients.

use rayon::prelude::*;

use super::rows::{BLOCK_ROWS, chunk_len, reduce};
use super::simd::{self, simd_fn};
use super::sums::{sum, sum_pairs};

/// What a row was shifted and scaled by: x^ = ((x - mean) - rest) * inverse_std.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStatistics {
    /// The mean, rounded to f32.
    mean: f32,
    /// What the rounding left of the mean: a mean far from zero costs no accuracy.
    rest: f32,
    inverse_std: f32,
}

impl RowStatistics {
    #[inline(always)]
    fn normalised(&self, x: f32) -> f32 {
        ((x - self.mean) - self.rest) * self.inverse_std
    }
}

#[inline(always)]
fn statistics(x: &[f32], eps: f64) -> RowStatistics {
    let count = x.len() as f64;
    let pivot = x.first().copied().unwrap_or_default();
    let mean = (f64::from(pivot) + sum(x, |x| x - pivot) / count) as f32;
    let rest = sum(x, |x| x - mean) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count - rest * rest;
    // Rounding may leave a negative zero variance; NaN must stay.
    let variance = if variance < 0. { 0. } else { variance };
    RowStatistics {
        mean,
        rest: rest as f32,
        inverse_std: (1. / (variance + eps).sqrt()) as f32,
    }
}

simd_fn! {
    fn forward_rows(
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        eps: f64,
        rows: &mut [RowStatistics],
        y: &mut [f32],
    ) {
        let c = weight.len();
        for ((x, row), y) in x.chunks(c).zip(rows).zip(y.chunks_mut(c)) {
            *row = statistics(x, eps);
            let row = *row;
            for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                *y = row.normalised(*x) * w + b;
            }
        }
    }

    // dy becomes the gradient of x; sums over the rows go to `of_weight` and `of_bias`.
    fn backward_rows(
        dy: &mut [f32],
        x: &[f32],
        weight: &[f32],
        rows: &[RowStatistics],
        of_weight: &mut [f32],
        of_bias: &mut [f32],
    ) {
        let c = weight.len();
        let count = c as f64;
        let (of_weight, of_bias) = (&mut of_weight[..c], &mut of_bias[..c]);
        for ((dy, x), row) in dy.chunks_mut(c).zip(x.chunks(c)).zip(rows) {
            let row = *row;
            for (((d, x), w), b) in dy.iter_mut().zip(x).zip(&mut *of_weight).zip(&mut *of_bias) {
                *w += *d * row.normalised(*x);
                *b += *d;
            }
            // g = dy weight;  dx = (g - mean(g) - x^ mean(g x^)) / std
            for (d, w) in dy.iter_mut().zip(weight) {
                *d *= w;
            }
            let mean = (sum(dy, |g| g) / count) as f32;
            let slope = (sum_pairs(dy, x, |g, x| g * row.normalised(x)) / count) as f32;
            for (d, x) in dy.iter_mut().zip(x) {
                *d = (*d - mean - row.normalised(*x) * slope) * row.inverse_std;
            }
        }
    }
}

/// Normalises each row of `x`, whose length is that of `weight` and `bias` (C, at least 1), and
/// returns what [`backward`] needs.
///
/// Sums are f32 within 64 values a lane and f64 beyond, of differences from the first value and then
/// from the mean.
#[must_use]
pub fn forward(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f64,
    y: &mut [f32],
) -> Vec<RowStatistics> {
    let (level, c) = (simd::level(), weight.len().max(1));
    let len = chunk_len(c);
    let mut rows = vec![RowStatistics::default(); x.len() / c];
    y.par_chunks_mut(len)
        .zip(x.par_chunks(len))
        .zip(rows.par_chunks_mut(len / c))
        .for_each(|((y, x), rows)| forward_rows(level, x, weight, bias, eps, rows, y));
    rows
}

/// As [`forward`], on the caller's thread and without what a backward would need.
pub fn forward_on_thread(x: &[f32], weight: &[f32], bias: &[f32], eps: f64, y: &mut [f32]) {
    let (level, c) = (simd::level(), weight.len().max(1));
    let mut row = [RowStatistics::default()];
    for (x, y) in x.chunks(c).zip(y.chunks_mut(c)) {
        forward_rows(level, x, weight, bias, eps, &mut row, y);
    }
}

/// Gradients of weight and bias (C).
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGradients {
    /// Sum over rows of dy x^.
    pub weight: Vec<f32>,
    /// Sum over rows of dy.
    pub bias: Vec<f32>,
}

/// Turns `dy` into the gradient of x; sums over rows are f32 within 64 rows, f64 beyond, in fixed
/// order.
#[must_use]
pub fn backward(
    dy: &mut [f32],
    x: &[f32],
    weight: &[f32],
    rows: &[RowStatistics],
) -> ParameterGradients {
    let (level, c) = (simd::level(), weight.len().max(1));
    let len = chunk_len(c);
    let parts = dy
        .par_chunks_mut(len)
        .zip(x.par_chunks(len))
        .zip(rows.par_chunks(len / c))
        .map(|((dy, x), rows)| {
            let mut totals = vec![0f64; 2 * c];
            let mut block = vec![0f32; 2 * c];
            let blocks = dy.chunks_mut(BLOCK_ROWS * c).zip(x.chunks(BLOCK_ROWS * c));
            for ((dy, x), rows) in blocks.zip(rows.chunks(BLOCK_ROWS)) {
                block.fill(0.);
                let (of_weight, of_bias) = block.split_at_mut(c);
                backward_rows(level, dy, x, weight, rows, of_weight, of_bias);
                let sums = totals.iter_mut().zip(&block);
                sums.for_each(|(total, v)| *total += f64::from(*v));
            }
            totals
        })
        .collect();
    let mut weight: Vec<f32> = reduce(parts, 2 * c).iter().map(|v| *v as f32).collect();
    let bias = weight.split_off(c);
    ParameterGradients { weight, bias }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::Level;

    #[test]
    fn rows_have_the_same_bits_at_every_level() {
        let c = 1037;
        let x: Vec<f32> = (0..3 * c).map(|i| (i as f32 * 0.37).sin() + 5.).collect();
        let (weight, bias) = (&x[7..7 + c], &x[9..9 + c]);
        let run = |level| {
            let mut rows = vec![RowStatistics::default(); 3];
            let (mut y, mut dy) = (x.clone(), x.clone());
            let (mut of_weight, mut of_bias) = (vec![0.; c], vec![0.; c]);
            forward_rows(level, &x, weight, bias, 1e-6, &mut rows, &mut y);
            backward_rows(
                level,
                &mut dy,
                &x,
                weight,
                &rows,
                &mut of_weight,
                &mut of_bias,
            );
            [y, dy, of_weight, of_bias].map(|v| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        };
        for level in Level::available() {
            assert_eq!(run(level), run(Level::Portable), "{level:?}");
        }
    }
}
