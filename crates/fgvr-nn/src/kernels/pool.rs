//! Max, average and global pooling, channels-last. Backward gathers per input row, so that rows are
//! independent work.

use rayon::prelude::*;

use super::rows::BLOCK_ROWS;
use super::simd::{self, simd_fn};

/// A pooling of (N, H, W, C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// (N, H, W, C) of the input.
    pub input: [usize; 4],
    /// Side of the window.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Places added around the input.
    pub padding: usize,
}

impl PoolShape {
    /// (N, H, W, C) of the output; the last window lies wholly inside the padded input.
    #[must_use]
    pub fn output(&self) -> [usize; 4] {
        let [n, h, w, c] = self.input;
        [n, self.side(h), self.side(w), c]
    }

    fn side(&self, from: usize) -> usize {
        (from + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Taps of the window at output index `o` that fall on an input of length `from`.
    fn taps(&self, o: usize, from: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let start = o * self.stride;
        let padding = self.padding;
        (0..self.kernel).filter_map(move |k| {
            let at = (start + k).checked_sub(padding)?;
            (at < from).then_some((k, at))
        })
    }

    /// Taps through which input index `i` is read, and by which output index, of `to`.
    fn readers(&self, i: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
        let (at, stride) = (i + self.padding, self.stride);
        (0..self.kernel).filter_map(move |k| {
            let start = at.checked_sub(k)?;
            (start % stride == 0 && start / stride < to).then_some((k, start / stride))
        })
    }
}

simd_fn! {
    fn take_larger(x: &[f32], tap: u8, y: &mut [f32], taps: &mut [u8]) {
        for ((x, y), t) in x.iter().zip(y).zip(taps) {
            // Strictly larger: the first maximum wins. NaN is passed on.
            let take = *x > *y || x.is_nan();
            *y = if take { *x } else { *y };
            *t = if take { tap } else { *t };
        }
    }

    fn add_where(dy: &[f32], taps: &[u8], tap: u8, dx: &mut [f32]) {
        for ((dx, dy), t) in dx.iter_mut().zip(dy).zip(taps) {
            *dx += if *t == tap { *dy } else { 0. };
        }
    }

    fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * x;
        }
    }
}

/// The largest value of each window, and the tap (row * kernel + column) it came from: the first,
/// where several are equal.
///
/// The window is at most 16 x 16, so that a tap fits a byte, and its padding at most half of it.
pub fn max(shape: &PoolShape, x: &[f32], y: &mut [f32], taps: &mut [u8]) {
    let level = simd::level();
    let [_, h, w, c] = shape.input;
    let [_, oh, ow, _] = shape.output();
    let rows = y
        .par_chunks_mut((ow * c).max(1))
        .zip(taps.par_chunks_mut((ow * c).max(1)));
    rows.enumerate().for_each(|(r, (y, taps))| {
        let (image, oy) = (r / oh, r % oh);
        for ((ox, y), taps) in y.chunks_mut(c).enumerate().zip(taps.chunks_mut(c)) {
            let columns = shape.taps(ox, w);
            let mut first = true;
            for (ky, iy) in shape.taps(oy, h) {
                for (kx, ix) in columns.clone() {
                    let x = &x[((image * h + iy) * w + ix) * c..][..c];
                    let tap = (ky * shape.kernel + kx) as u8;
                    if first {
                        y.copy_from_slice(x);
                        taps.fill(tap);
                        first = false;
                    } else {
                        take_larger(level, x, tap, y, taps);
                    }
                }
            }
        }
    });
}

/// The gradient of [`max`]: to the tap that was taken; overwrites `dx`.
pub fn max_grad(shape: &PoolShape, dy: &[f32], taps: &[u8], dx: &mut [f32]) {
    let level = simd::level();
    gather(shape, dx, |range, tap, dx| {
        add_where(level, &dy[range.clone()], &taps[range], tap as u8, dx);
    });
}

/// The mean of each window, places of the padding counted as zeros.
pub fn average(shape: &PoolShape, x: &[f32], y: &mut [f32]) {
    let level = simd::level();
    let [_, h, w, c] = shape.input;
    let [_, oh, ow, _] = shape.output();
    let share = 1. / (shape.kernel * shape.kernel) as f32;
    y.par_chunks_mut((ow * c).max(1))
        .enumerate()
        .for_each(|(r, y)| {
            let (image, oy) = (r / oh, r % oh);
            y.fill(0.);
            for (ox, y) in y.chunks_mut(c).enumerate() {
                for (_, iy) in shape.taps(oy, h) {
                    for (_, ix) in shape.taps(ox, w) {
                        axpy(level, share, &x[((image * h + iy) * w + ix) * c..][..c], y);
                    }
                }
            }
        });
}

/// The gradient of [`average`]; overwrites `dx`.
pub fn average_grad(shape: &PoolShape, dy: &[f32], dx: &mut [f32]) {
    let level = simd::level();
    let share = 1. / (shape.kernel * shape.kernel) as f32;
    gather(shape, dx, |range, _, dx| axpy(level, share, &dy[range], dx));
}

/// For each place of `dx`, `add(range of the output place, tap, dx of the place)` over all windows
/// that read it.
fn gather(
    shape: &PoolShape,
    dx: &mut [f32],
    add: impl Fn(std::ops::Range<usize>, usize, &mut [f32]) + Sync,
) {
    let [_, h, w, c] = shape.input;
    let [_, oh, ow, _] = shape.output();
    dx.par_chunks_mut((w * c).max(1))
        .enumerate()
        .for_each(|(r, dx)| {
            let (image, iy) = (r / h, r % h);
            dx.fill(0.);
            for (ky, oy) in shape.readers(iy, oh) {
                for (ix, dx) in dx.chunks_mut(c).enumerate() {
                    for (kx, ox) in shape.readers(ix, ow) {
                        let start = ((image * oh + oy) * ow + ox) * c;
                        add(start..start + c, ky * shape.kernel + kx, dx);
                    }
                }
            }
        });
}

/// The mean over all places: `x` (N, places, C) into `y` (N, C); f32 within 64 places, f64 beyond.
pub fn global_mean(x: &[f32], places: usize, c: usize, y: &mut [f32]) {
    let level = simd::level();
    y.par_chunks_mut(c.max(1))
        .zip(x.par_chunks((places * c).max(1)))
        .for_each(|(y, x)| {
            let (mut block, mut sums) = (vec![0f32; c], vec![0f64; c]);
            for x in x.chunks((BLOCK_ROWS * c).max(1)) {
                block.fill(0.);
                x.chunks(c).for_each(|row| axpy(level, 1., row, &mut block));
                sums.iter_mut()
                    .zip(&block)
                    .for_each(|(s, b)| *s += f64::from(*b));
            }
            y.iter_mut()
                .zip(&sums)
                .for_each(|(y, s)| *y = (s / places as f64) as f32);
        });
}

/// The gradient of [`global_mean`]: an equal share for each place; overwrites `dx`.
pub fn global_mean_grad(dy: &[f32], places: usize, c: usize, dx: &mut [f32]) {
    let share = 1. / places as f32;
    dx.par_chunks_mut((places * c).max(1))
        .zip(dy.par_chunks(c.max(1)))
        .for_each(|(dx, dy)| {
            for dx in dx.chunks_mut(c) {
                dx.iter_mut().zip(dy).for_each(|(d, g)| *d = g * share);
            }
        });
}
