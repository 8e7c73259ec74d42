//! Batch norm over rows of channels: y = (x - mean) * scale + shift, fused with a residual and an
//! activation, and its gradients.
//!
//! Forward reads `x` twice (statistics, apply); backward reads `x` and the gradient twice (two sums
//! per channel, apply). The activation's mask costs no memory: without a residual the sign of the output
//! is recomputed from `x` with the forward's own expression, with one it is read from the output.

use rayon::prelude::*;

use super::activation::ActivationFunction::{self, Identity};
use super::activation::{ceiling, cut, cut_grad};
use super::rows::{BLOCK_ROWS, chunk_len, fold, reduce, repeat, width};
use super::simd::{self, simd_fn};

/// Mean and biased variance per channel of one group of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Mean (C).
    pub mean: Vec<f64>,
    /// Mean square deviation from the mean (C).
    pub variance: Vec<f64>,
}

/// What batch norm does to a channel: y = (x - mean) * scale + shift.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    mean: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    channels: usize,
}

impl Affine {
    /// From one mean, scale and shift per channel (C).
    #[must_use]
    pub fn new(mean: &[f64], scale: &[f64], shift: &[f32]) -> Self {
        let channels = mean.len();
        let width = width(channels);
        Self {
            mean: repeat(mean.iter().map(|v| *v as f32), width),
            scale: repeat(scale.iter().map(|v| *v as f32), width),
            shift: repeat(shift.iter().copied(), width),
            channels,
        }
    }

    fn width(&self) -> usize {
        self.mean.len()
    }
}

simd_fn! {
    // Sums of x - pivot and of its square per lane, the pivot being the block's first row.
    fn moments_block(x: &[f32], sum: &mut [f32], square: &mut [f32]) {
        let w = sum.len();
        sum.fill(0.);
        square.fill(0.);
        if x.len() < w {
            return;
        }
        let (sum, square, pivot) = (&mut sum[..w], &mut square[..w], &x[..w]);
        let fours = x.chunks_exact(4 * w);
        let rest = fours.remainder();
        for four in fours {
            let (a, b, c, d) = (&four[..w], &four[w..2 * w], &four[2 * w..3 * w], &four[3 * w..4 * w]);
            for j in 0..w {
                let p = pivot[j];
                let (a, b, c, d) = (a[j] - p, b[j] - p, c[j] - p, d[j] - p);
                sum[j] += (a + b) + (c + d);
                square[j] += (a * a + b * b) + (c * c + d * d);
            }
        }
        for row in rest.chunks(w) {
            for (((x, p), s), q) in row.iter().zip(pivot).zip(&mut *sum).zip(&mut *square) {
                let d = x - p;
                *s += d;
                *q += d * d;
            }
        }
    }

    fn apply_chunk(x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks(mean.len()).zip(y.chunks_mut(mean.len())) {
            for ((((y, x), m), a), b) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(shift) {
                *y = (x - m) * a + b;
            }
        }
    }

    fn apply_relu_chunk(x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], ceiling: f32, y: &mut [f32]) {
        for (x, y) in x.chunks(mean.len()).zip(y.chunks_mut(mean.len())) {
            for ((((y, x), m), a), b) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(shift) {
                let v = (x - m) * a + b;
                *y = cut(v, ceiling);
            }
        }
    }

    fn apply_add_chunk(x: &[f32], r: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
        let w = mean.len();
        for ((x, r), y) in x.chunks(w).zip(r.chunks(w)).zip(y.chunks_mut(w)) {
            for (((((y, x), r), m), a), b) in y.iter_mut().zip(x).zip(r).zip(mean).zip(scale).zip(shift) {
                *y = (x - m) * a + b + r;
            }
        }
    }

    fn apply_add_relu_chunk(x: &[f32], r: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], ceiling: f32, y: &mut [f32]) {
        let w = mean.len();
        for ((x, r), y) in x.chunks(w).zip(r.chunks(w)).zip(y.chunks_mut(w)) {
            for (((((y, x), r), m), a), b) in y.iter_mut().zip(x).zip(r).zip(mean).zip(scale).zip(shift) {
                let v = (x - m) * a + b + r;
                *y = cut(v, ceiling);
            }
        }
    }

    fn apply_two_relu_chunk(x: &[f32], r: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], r_mean: &[f32], r_scale: &[f32], r_shift: &[f32], y: &mut [f32]) {
        let w = mean.len();
        let (scale, shift, r_mean, r_scale, r_shift) = (&scale[..w], &shift[..w], &r_mean[..w], &r_scale[..w], &r_shift[..w]);
        for ((x, r), y) in x.chunks(w).zip(r.chunks(w)).zip(y.chunks_mut(w)) {
            let lanes = x.len().min(r.len()).min(y.len()).min(w);
            let (x, r, y) = (&x[..lanes], &r[..lanes], &mut y[..lanes]);
            for j in 0..lanes {
                let v = (x[j] - mean[j]) * scale[j] + shift[j] + ((r[j] - r_mean[j]) * r_scale[j] + r_shift[j]);
                y[j] = if v < 0. { 0. } else { v };
            }
        }
    }

    fn sums_block(dy: &[f32], x: &[f32], mean: &[f32], sum: &mut [f32], product: &mut [f32]) {
        let w = mean.len();
        for (dy, x) in dy.chunks(w).zip(x.chunks(w)) {
            for ((((g, x), m), s), p) in dy.iter().zip(x).zip(mean).zip(&mut *sum).zip(&mut *product) {
                *s += g;
                *p += g * (x - m);
            }
        }
    }

    // As `sums_block`, with dy = 0 where the forward's activation cut off.
    fn sums_relu_block(dy: &[f32], x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], ceiling: f32, sum: &mut [f32], product: &mut [f32]) {
        let w = mean.len();
        let (scale, shift, sum, product) = (&scale[..w], &shift[..w], &mut sum[..w], &mut product[..w]);
        for (dy, x) in dy.chunks(w).zip(x.chunks(w)) {
            let lanes = dy.len().min(x.len()).min(w);
            let (dy, x) = (&dy[..lanes], &x[..lanes]);
            for j in 0..lanes {
                let d = x[j] - mean[j];
                let g = cut_grad(dy[j], d * scale[j] + shift[j], ceiling);
                sum[j] += g;
                product[j] += g * d;
            }
        }
    }

    // As `sums_block`, with dy set to 0 where the output y is 0.
    fn sums_masking_block(dy: &mut [f32], x: &[f32], y: &[f32], mean: &[f32], sum: &mut [f32], product: &mut [f32]) {
        let w = mean.len();
        for ((dy, x), y) in dy.chunks_mut(w).zip(x.chunks(w)).zip(y.chunks(w)) {
            for (((((g, x), y), m), s), p) in dy.iter_mut().zip(x).zip(y).zip(mean).zip(&mut *sum).zip(&mut *product) {
                let v = if *y <= 0. { 0. } else { *g };
                *g = v;
                *s += v;
                *p += v * (x - m);
            }
        }
    }

    fn grad_chunk(dy: &mut [f32], x: &[f32], mean: &[f32], scale: &[f32], g_mean: &[f32], slope: &[f32]) {
        let w = mean.len();
        for (dy, x) in dy.chunks_mut(w).zip(x.chunks(w)) {
            for (((((g, x), m), a), h), b) in dy.iter_mut().zip(x).zip(mean).zip(scale).zip(g_mean).zip(slope) {
                *g = (*g - h) * a - (x - m) * b;
            }
        }
    }

    fn grad_relu_chunk(dy: &mut [f32], x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], ceiling: f32, g_mean: &[f32], slope: &[f32]) {
        let w = mean.len();
        let (scale, shift, g_mean, slope) = (&scale[..w], &shift[..w], &g_mean[..w], &slope[..w]);
        for (dy, x) in dy.chunks_mut(w).zip(x.chunks(w)) {
            let lanes = dy.len().min(x.len()).min(w);
            let (dy, x) = (&mut dy[..lanes], &x[..lanes]);
            for j in 0..lanes {
                let d = x[j] - mean[j];
                let g = cut_grad(dy[j], d * scale[j] + shift[j], ceiling);
                dy[j] = (g - g_mean[j]) * scale[j] - d * slope[j];
            }
        }
    }

    fn grad_into_chunk(dy: &[f32], x: &[f32], mean: &[f32], scale: &[f32], g_mean: &[f32], slope: &[f32], dx: &mut [f32]) {
        let w = mean.len();
        for ((dy, x), dx) in dy.chunks(w).zip(x.chunks(w)).zip(dx.chunks_mut(w)) {
            for ((((((o, g), x), m), a), h), b) in dx.iter_mut().zip(dy).zip(x).zip(mean).zip(scale).zip(g_mean).zip(slope) {
                *o = (*g - h) * a - (x - m) * b;
            }
        }
    }

    fn grad_relu_into_chunk(dy: &[f32], x: &[f32], mean: &[f32], scale: &[f32], shift: &[f32], ceiling: f32, g_mean: &[f32], slope: &[f32], dx: &mut [f32]) {
        let w = mean.len();
        let (scale, shift, g_mean, slope) = (&scale[..w], &shift[..w], &g_mean[..w], &slope[..w]);
        for ((dy, x), dx) in dy.chunks(w).zip(x.chunks(w)).zip(dx.chunks_mut(w)) {
            let lanes = dy.len().min(x.len()).min(dx.len()).min(w);
            let (dy, x, dx) = (&dy[..lanes], &x[..lanes], &mut dx[..lanes]);
            for j in 0..lanes {
                let d = x[j] - mean[j];
                let g = cut_grad(dy[j], d * scale[j] + shift[j], ceiling);
                dx[j] = (g - g_mean[j]) * scale[j] - d * slope[j];
            }
        }
    }
}

/// Sums that the statistics of some rows are made from, so that rows may come in parts.
///
/// Within 64 rows, f32 sums of the difference from the first of them; beyond, f64 in fixed order.
/// So a mean far from zero costs no accuracy.
#[derive(Clone, Debug)]
pub struct MomentSums {
    /// Sums of x, then of its square (2 C).
    totals: Vec<f64>,
    rows: usize,
    channels: usize,
}

impl MomentSums {
    /// The sums of no rows of `c` channels.
    #[must_use]
    pub fn new(c: usize) -> Self {
        Self {
            totals: vec![0.; 2 * c],
            rows: 0,
            channels: c,
        }
    }

    /// Adds the rows of `x`.
    pub fn add(&mut self, x: &[f32]) {
        let c = self.channels;
        let (level, width) = (simd::level(), width(c));
        let parts = x
            .par_chunks(chunk_len(width))
            .map(|chunk| {
                let (mut sum, mut square) = (vec![0f32; width], vec![0f32; width]);
                let mut totals = vec![0f64; 2 * width];
                for x in chunk.chunks(BLOCK_ROWS * width) {
                    moments_block(level, x, &mut sum, &mut square);
                    let (rows, more) = (x.len() / width, x.len() % width);
                    let (first, second) = totals.split_at_mut(width);
                    // sum of x = m p + s, sum of x² = m p² + 2 p s + q, with the pivot p
                    for (j, pivot) in x.iter().take(width).enumerate() {
                        let m = (rows + usize::from(j < more)) as f64;
                        let (p, s, q) =
                            (f64::from(*pivot), f64::from(sum[j]), f64::from(square[j]));
                        first[j] += m * p + s;
                        second[j] += m * p * p + 2. * p * s + q;
                    }
                }
                totals
            })
            .collect();
        let lanes = reduce(parts, 2 * width);
        let (first, second) = (fold(&lanes[..width], c), fold(&lanes[width..], c));
        let sums = first.iter().chain(&second);
        self.totals.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        self.rows += x.len() / c.max(1);
    }

    /// The statistics of all rows.
    #[must_use]
    pub fn finish(self) -> Moments {
        let count = self.rows as f64;
        let (first, second) = self.totals.split_at(self.channels);
        let mean: Vec<f64> = first.iter().map(|s| s / count).collect();
        let variance = second
            .iter()
            .zip(&mean)
            .map(|(q, m)| {
                let v = q / count - m * m;
                // Rounding may leave a negative zero variance; NaN must stay.
                if v < 0. { 0. } else { v }
            })
            .collect();
        Moments { mean, variance }
    }
}

/// Statistics of the rows of `x` with `c` channels.
#[must_use]
pub fn moments(x: &[f32], c: usize) -> Moments {
    let mut sums = MomentSums::new(c);
    sums.add(x);
    sums.finish()
}

/// y = (x - mean) * scale + shift (+ residual), then the activation.
pub fn apply(
    x: &[f32],
    affine: &Affine,
    residual: Option<&[f32]>,
    activation: ActivationFunction,
    y: &mut [f32],
) {
    let (level, len) = (simd::level(), chunk_len(affine.width()));
    let ceiling = ceiling(activation);
    let Affine {
        mean, scale, shift, ..
    } = affine;
    let pieces = y.par_chunks_mut(len).zip(x.par_chunks(len));
    match residual {
        None => pieces.for_each(|(y, x)| match activation {
            Identity => apply_chunk(level, x, mean, scale, shift, y),
            _ => apply_relu_chunk(level, x, mean, scale, shift, ceiling, y),
        }),
        Some(r) => pieces
            .zip(r.par_chunks(len))
            .for_each(|((y, x), r)| match activation {
                Identity => apply_add_chunk(level, x, r, mean, scale, shift, y),
                _ => apply_add_relu_chunk(level, x, r, mean, scale, shift, ceiling, y),
            }),
    }
}

/// y = relu(norm(x) + norm(r)), each by its own affine.
pub fn apply_two_relu(x: &[f32], affine: &Affine, r: &[f32], of_r: &Affine, y: &mut [f32]) {
    let (level, len) = (simd::level(), chunk_len(affine.width()));
    y.par_chunks_mut(len)
        .zip(x.par_chunks(len))
        .zip(r.par_chunks(len))
        .for_each(|((y, x), r)| {
            let (mean, scale, shift) = (&affine.mean, &affine.scale, &affine.shift);
            let (r_mean, r_scale, r_shift) = (&of_r.mean, &of_r.scale, &of_r.shift);
            apply_two_relu_chunk(level, x, r, mean, scale, shift, r_mean, r_scale, r_shift, y);
        });
}

/// Sums per channel that batch norm's backward needs: of g, and of g * (x - mean).
#[derive(Clone, Debug, PartialEq)]
pub struct GradSums {
    /// Sum of g (C): the gradient of the shift.
    pub sum: Vec<f64>,
    /// Sum of g * (x - mean) (C).
    pub product: Vec<f64>,
}

impl GradSums {
    /// The sums of no rows of `c` channels.
    #[must_use]
    pub fn zero(c: usize) -> Self {
        Self {
            sum: vec![0.; c],
            product: vec![0.; c],
        }
    }

    fn reduce(affine: &Affine, parts: Vec<Vec<f64>>) -> Self {
        let width = affine.width();
        let totals = reduce(parts, 2 * width);
        Self {
            sum: fold(&totals[..width], affine.channels),
            product: fold(&totals[width..], affine.channels),
        }
    }

    /// Adds the sums of more rows.
    pub fn add(&mut self, rows: &Self) {
        let add = |to: &mut [f64], from: &[f64]| to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        add(&mut self.sum, &rows.sum);
        add(&mut self.product, &rows.product);
    }
}

/// The two sums over the rows of one group. dy counts as 0 where the forward's `activation` cut off,
/// recomputed from `x`: no residual was added before it.
#[must_use]
pub fn grad_sums(
    dy: &[f32],
    x: &[f32],
    affine: &Affine,
    activation: ActivationFunction,
) -> GradSums {
    let (level, ceiling) = (simd::level(), ceiling(activation));
    let (len, block) = (chunk_len(affine.width()), BLOCK_ROWS * affine.width());
    let Affine {
        mean, scale, shift, ..
    } = affine;
    let parts = dy.par_chunks(len).zip(x.par_chunks(len)).map(|(dy, x)| {
        let blocks = dy.chunks(block).zip(x.chunks(block));
        sum_blocks(affine, blocks, |(dy, x), sum, product| match activation {
            Identity => sums_block(level, dy, x, mean, sum, product),
            _ => sums_relu_block(level, dy, x, mean, scale, shift, ceiling, sum, product),
        })
    });
    GradSums::reduce(affine, parts.collect())
}

/// As [`grad_sums`], and sets `dy` to 0 where the output `y`, after a residual and a ReLU, is 0.
pub fn grad_sums_masking(dy: &mut [f32], x: &[f32], affine: &Affine, y: &[f32]) -> GradSums {
    let level = simd::level();
    let (len, block) = (chunk_len(affine.width()), BLOCK_ROWS * affine.width());
    let pieces = dy.par_chunks_mut(len).zip(x.par_chunks(len));
    let parts = pieces.zip(y.par_chunks(len)).map(|((dy, x), y)| {
        let blocks = dy
            .chunks_mut(block)
            .zip(x.chunks(block))
            .zip(y.chunks(block));
        sum_blocks(affine, blocks, |((dy, x), y), sum, product| {
            sums_masking_block(level, dy, x, y, &affine.mean, sum, product);
        })
    });
    GradSums::reduce(affine, parts.collect())
}

/// f64 totals, per lane, of the f32 sums and products that `add` makes of each block.
fn sum_blocks<T>(
    affine: &Affine,
    blocks: impl Iterator<Item = T>,
    mut add: impl FnMut(T, &mut [f32], &mut [f32]),
) -> Vec<f64> {
    let width = affine.width();
    let (mut sum, mut product) = (vec![0f32; width], vec![0f32; width]);
    let mut totals = vec![0f64; 2 * width];
    for block in blocks {
        sum.fill(0.);
        product.fill(0.);
        add(block, &mut sum, &mut product);
        let lanes = sum.iter().chain(&product);
        let pairs = totals.iter_mut().zip(lanes);
        pairs.for_each(|(t, v)| *t += f64::from(*v));
    }
    totals
}

/// What turns a gradient g into that of `x`: dx = (g - g_mean) * scale - (x - mean) * slope.
#[derive(Clone, Debug)]
pub struct Slope {
    g_mean: Vec<f32>,
    slope: Vec<f32>,
}

impl Slope {
    /// From one mean and slope per channel (C).
    #[must_use]
    pub fn new(affine: &Affine, g_mean: &[f64], slope: &[f64]) -> Self {
        let lanes = |values: &[f64]| repeat(values.iter().map(|v| *v as f32), affine.width());
        Self {
            g_mean: lanes(g_mean),
            slope: lanes(slope),
        }
    }
}

/// The gradient of `x` in place of `dy`, masked where `activation` cut off the norm's output.
pub fn grad_input(
    dy: &mut [f32],
    x: &[f32],
    affine: &Affine,
    slope: &Slope,
    activation: ActivationFunction,
) {
    let (level, len) = (simd::level(), chunk_len(affine.width()));
    let ceiling = ceiling(activation);
    let Affine {
        mean, scale, shift, ..
    } = affine;
    let Slope { g_mean, slope } = slope;
    dy.par_chunks_mut(len)
        .zip(x.par_chunks(len))
        .for_each(|(dy, x)| match activation {
            Identity => grad_chunk(level, dy, x, mean, scale, g_mean, slope),
            _ => grad_relu_chunk(level, dy, x, mean, scale, shift, ceiling, g_mean, slope),
        });
}

/// As [`grad_input`], into `dx`, where `dy` is still needed.
pub fn grad_input_into(
    dy: &[f32],
    x: &[f32],
    affine: &Affine,
    slope: &Slope,
    activation: ActivationFunction,
    dx: &mut [f32],
) {
    let (level, len) = (simd::level(), chunk_len(affine.width()));
    let ceiling = ceiling(activation);
    let Affine {
        mean, scale, shift, ..
    } = affine;
    let Slope { g_mean, slope } = slope;
    dx.par_chunks_mut(len)
        .zip(dy.par_chunks(len))
        .zip(x.par_chunks(len))
        .for_each(|((dx, dy), x)| match activation {
            Identity => grad_into_chunk(level, dy, x, mean, scale, g_mean, slope, dx),
            _ => grad_relu_into_chunk(level, dy, x, mean, scale, shift, ceiling, g_mean, slope, dx),
        });
}
