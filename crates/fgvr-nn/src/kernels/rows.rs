//! Rows of `c` channels: how they are cut into work, and what bias and activation do to them.

use rayon::prelude::*;

use super::activation::{ActivationFunction, ceiling, cut, cut_grad};
use super::simd::{self, simd_fn};

/// Floats in one piece of parallel work.
pub(crate) const CHUNK: usize = 1 << 16;

/// Rows that are summed in f32 before the sum goes to f64.
pub(crate) const BLOCK_ROWS: usize = 64;

/// The width at which rows of `c` channels are walked: narrow rows are taken several at once, so
/// that the inner loop is long enough for vector registers.
pub(crate) fn width(c: usize) -> usize {
    c * 64usize.div_ceil(c.max(1)).max(1)
}

/// Length of a piece of parallel work: whole widths, fixed by the shape alone.
pub(crate) fn chunk_len(width: usize) -> usize {
    width * (CHUNK / width.max(1)).max(1)
}

/// `values` (C), repeated to `width`.
pub(crate) fn repeat(values: impl Iterator<Item = f32> + Clone, width: usize) -> Vec<f32> {
    values.cycle().take(width).collect()
}

/// Folds sums over `width` lanes into sums over `c` channels.
pub(crate) fn fold(lanes: &[f64], c: usize) -> Vec<f64> {
    let mut sums = vec![0.; c];
    for row in lanes.chunks(c.max(1)) {
        sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    sums
}

/// Adds partial sums in order.
pub(crate) fn reduce(parts: Vec<Vec<f64>>, len: usize) -> Vec<f64> {
    let mut total = vec![0.; len];
    for part in parts {
        total.iter_mut().zip(&part).for_each(|(t, p)| *t += p);
    }
    total
}

simd_fn! {
    pub(crate) fn add_row(y: &mut [f32], row: &[f32]) {
        for y in y.chunks_mut(row.len()) {
            for (y, b) in y.iter_mut().zip(row) {
                *y += b;
            }
        }
    }

    fn add_row_cut(y: &mut [f32], row: &[f32], ceiling: f32) {
        for y in y.chunks_mut(row.len()) {
            for (y, b) in y.iter_mut().zip(row) {
                *y = cut(*y + b, ceiling);
            }
        }
    }

    fn add_row_add(y: &mut [f32], row: &[f32], x: &[f32]) {
        for (y, x) in y.chunks_mut(row.len()).zip(x.chunks(row.len())) {
            for ((y, b), x) in y.iter_mut().zip(row).zip(x) {
                *y = *y + b + x;
            }
        }
    }

    fn add_row_add_cut(y: &mut [f32], row: &[f32], x: &[f32], ceiling: f32) {
        for (y, x) in y.chunks_mut(row.len()).zip(x.chunks(row.len())) {
            for ((y, b), x) in y.iter_mut().zip(row).zip(x) {
                *y = cut(*y + b + x, ceiling);
            }
        }
    }

    fn sum_block(x: &[f32], sums: &mut [f32]) {
        sums.fill(0.);
        for x in x.chunks(sums.len()) {
            for (s, x) in sums.iter_mut().zip(x) {
                *s += x;
            }
        }
    }

    fn cut_chunk(x: &[f32], ceiling: f32, y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = cut(*x, ceiling);
        }
    }

    fn cut_grad_chunk(dy: &mut [f32], y: &[f32], ceiling: f32) {
        for (d, y) in dy.iter_mut().zip(y) {
            *d = cut_grad(*d, *y, ceiling);
        }
    }

    fn scale_chunk(x: &[f32], row: &[f32], y: &mut [f32]) {
        for (y, x) in y.chunks_mut(row.len()).zip(x.chunks(row.len())) {
            for ((y, x), s) in y.iter_mut().zip(x).zip(row) {
                *y = x * s;
            }
        }
    }

    fn multiply_chunk(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y *= x;
        }
    }

    fn add_chunk(sum: &mut [f32], x: &[f32]) {
        for (s, x) in sum.iter_mut().zip(x) {
            *s += x;
        }
    }
}

/// Adds `bias` (C) to each row of `y`.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    let (level, width) = (simd::level(), width(bias.len()));
    let row = repeat(bias.iter().copied(), width);
    y.par_chunks_mut(chunk_len(width))
        .for_each(|y| add_row(level, y, &row));
}

/// y = y + bias (+ residual), then the activation; `bias` (C) for each row. NaN stays NaN.
pub fn add_bias_activate(
    y: &mut [f32],
    bias: &[f32],
    residual: Option<&[f32]>,
    activation: ActivationFunction,
) {
    let (level, width) = (simd::level(), width(bias.len()));
    let ceiling = ceiling(activation);
    let row = repeat(bias.iter().copied(), width);
    let len = chunk_len(width);
    let pieces = y.par_chunks_mut(len);
    match (residual, activation) {
        (None, ActivationFunction::Identity) => pieces.for_each(|y| add_row(level, y, &row)),
        (None, _) => pieces.for_each(|y| add_row_cut(level, y, &row, ceiling)),
        (Some(residual), ActivationFunction::Identity) => pieces
            .zip(residual.par_chunks(len))
            .for_each(|(y, x)| add_row_add(level, y, &row, x)),
        (Some(residual), _) => pieces
            .zip(residual.par_chunks(len))
            .for_each(|(y, x)| add_row_add_cut(level, y, &row, x, ceiling)),
    }
}

/// The sum of all rows of `c` channels: f32 within 64 rows, f64 beyond, in fixed order.
#[must_use]
pub fn sum_rows(x: &[f32], c: usize) -> Vec<f64> {
    let (level, width) = (simd::level(), width(c));
    let parts = x
        .par_chunks(chunk_len(width))
        .map(|chunk| {
            let (mut block, mut sums) = (vec![0f32; width], vec![0f64; width]);
            for x in chunk.chunks(BLOCK_ROWS * width) {
                sum_block(level, x, &mut block);
                sums.iter_mut()
                    .zip(&block)
                    .for_each(|(s, b)| *s += f64::from(*b));
            }
            sums
        })
        .collect();
    fold(&reduce(parts, width), c)
}

/// The activation of each value; NaN stays NaN.
pub fn activate(x: &[f32], activation: ActivationFunction, y: &mut [f32]) {
    let (level, ceiling) = (simd::level(), ceiling(activation));
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| match activation {
            ActivationFunction::Identity => y.copy_from_slice(x),
            _ => cut_chunk(level, x, ceiling, y),
        });
}

/// Sets `dy` to zero where the activation's output `y` is cut off: no gradient at exactly 0 and 6, as
/// PyTorch.
pub fn activate_grad(dy: &mut [f32], y: &[f32], activation: ActivationFunction) {
    let (level, ceiling) = (simd::level(), ceiling(activation));
    if activation != ActivationFunction::Identity {
        dy.par_chunks_mut(CHUNK)
            .zip(y.par_chunks(CHUNK))
            .for_each(|(dy, y)| cut_grad_chunk(level, dy, y, ceiling));
    }
}

/// y = x * scale, `scale` (C) for each row.
pub fn scale(x: &[f32], scale: &[f32], y: &mut [f32]) {
    let (level, width) = (simd::level(), width(scale.len()));
    let row = repeat(scale.iter().copied(), width);
    let len = chunk_len(width);
    y.par_chunks_mut(len)
        .zip(x.par_chunks(len))
        .for_each(|(y, x)| scale_chunk(level, x, &row, y));
}

/// y *= x.
pub fn multiply(y: &mut [f32], x: &[f32]) {
    let level = simd::level();
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| multiply_chunk(level, y, x));
}

/// sum += x, on the caller's thread.
pub(crate) fn add_on_thread(sum: &mut [f32], x: &[f32]) {
    add_chunk(simd::level(), sum, x);
}

/// sum += x.
pub fn add(sum: &mut [f32], x: &[f32]) {
    let level = simd::level();
    sum.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(sum, x)| add_chunk(level, sum, x));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bias_residual_and_activation_are_added_in_one_pass_and_nan_stays() {
        // Rows of an odd number of channels, more than one chunk of them.
        let (c, rows) = (5, 30_011);
        let value = |i: usize| 5. * (i as f32 * 0.7).sin();
        let x: Vec<f32> = (0..rows * c).map(value).collect();
        let residual: Vec<f32> = (0..rows * c).map(|i| value(i + 3)).collect();
        let bias: Vec<f32> = (0..c).map(|i| value(i + 11)).collect();
        let activations = [
            (ActivationFunction::Identity, f32::MIN, f32::MAX),
            (ActivationFunction::Relu, 0., f32::MAX),
            (ActivationFunction::Relu6, 0., 6.),
        ];
        let residuals = [None, Some(&residual[..])];
        for ((activation, low, high), residual) in activations
            .into_iter()
            .flat_map(|a| residuals.map(|r| (a, r)))
        {
            let mut y = x.clone();
            y[7] = f32::NAN;
            add_bias_activate(&mut y, &bias, residual, activation);
            for (i, found) in y.iter().enumerate() {
                let sum = x[i] + bias[i % c] + residual.map_or(0., |r| r[i]);
                match i {
                    7 => assert!(found.is_nan()),
                    _ => assert_eq!(*found, sum.clamp(low, high), "{i}"),
                }
            }
        }
    }
}
