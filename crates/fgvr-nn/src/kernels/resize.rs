//! Nearest and bilinear resizing, channels-last. Backward gathers per input row, so that rows are
//! independent work.

use rayon::prelude::*;

use super::simd::{self, Level, simd_fn};

simd_fn! {
    fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * x;
        }
    }

    fn lerp4(a: &[f32], b: &[f32], c: &[f32], d: &[f32], wx: f32, wy: f32, y: &mut [f32]) {
        for ((((y, a), b), c), d) in y.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            let top = (1. - wx) * a + wx * b;
            let bottom = (1. - wx) * c + wx * d;
            *y = (1. - wy) * top + wy * bottom;
        }
    }
}

/// Each value of `x` (N, H, W, C) repeated `factor` times along both sides.
pub fn nearest(x: &[f32], [_, h, w, c]: [usize; 4], factor: usize, y: &mut [f32]) {
    let row = w * factor * c;
    y.par_chunks_mut(row.max(1)).enumerate().for_each(|(r, y)| {
        let (image, oy) = (r / (h * factor), r % (h * factor));
        let x = &x[(image * h + oy / factor) * w * c..][..w * c];
        for (y, x) in y.chunks_mut(factor * c).zip(x.chunks(c)) {
            y.chunks_mut(c).for_each(|y| y.copy_from_slice(x));
        }
    });
}

/// The gradient of [`nearest`]: sums of `factor` x `factor` places; overwrites `dx`.
pub fn nearest_grad(dy: &[f32], [_, _, w, c]: [usize; 4], factor: usize, dx: &mut [f32]) {
    let level = simd::level();
    let row = w * factor * c;
    dx.par_chunks_mut((w * c).max(1))
        .enumerate()
        .for_each(|(r, dx)| {
            dx.fill(0.);
            // Row r of all images' input rows is rows r * factor .. of all images' output rows.
            for dy in dy[r * factor * row..][..factor * row].chunks(row) {
                for (dx, dy) in dx.chunks_mut(c).zip(dy.chunks(factor * c)) {
                    dy.chunks(c).for_each(|dy| axpy(level, 1., dy, dx));
                }
            }
        });
}

/// The two source indices and the weight of the second, for each output index along one side.
/// Half-pixel centres, clamped at the border (align_corners = false).
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|o| {
            let at = ((o as f64 + 0.5) * scale - 0.5).max(0.);
            let low = (at as usize).min(from - 1);
            (low, (low + 1).min(from - 1), (at - low as f64) as f32)
        })
        .collect()
}

/// For each source index, the output indices that read it, and with which weight.
fn readers(taps: &[(usize, usize, f32)], from: usize) -> Vec<Vec<(usize, f32)>> {
    let mut readers = vec![Vec::new(); from];
    for (o, (low, high, weight)) in taps.iter().enumerate() {
        readers[*low].push((o, 1. - weight));
        readers[*high].push((o, *weight));
    }
    readers
}

/// `x` (N, H, W, C) resized bilinearly to `to` = (h, w), without antialiasing.
pub fn bilinear(x: &[f32], [_, h, w, c]: [usize; 4], to: (usize, usize), y: &mut [f32]) {
    let level = simd::level();
    let (rows, columns) = (taps(h, to.0), taps(w, to.1));
    y.par_chunks_mut((to.1 * c).max(1))
        .enumerate()
        .for_each(|(r, y)| {
            let (image, (y0, y1, wy)) = (r / to.0, rows[r % to.0]);
            let row = |i: usize| &x[(image * h + i) * w * c..][..w * c];
            let (top, bottom) = (row(y0), row(y1));
            for (y, (x0, x1, wx)) in y.chunks_mut(c).zip(&columns) {
                let (left, right) = (x0 * c..x0 * c + c, x1 * c..x1 * c + c);
                let (a, b) = (&top[left.clone()], &top[right.clone()]);
                lerp4(level, a, b, &bottom[left], &bottom[right], *wx, wy, y);
            }
        });
}

/// The gradient of [`bilinear`]; overwrites `dx` (N, H, W, C).
pub fn bilinear_grad(dy: &[f32], [_, h, w, c]: [usize; 4], to: (usize, usize), dx: &mut [f32]) {
    let level = simd::level();
    let (rows, columns) = (readers(&taps(h, to.0), h), taps(w, to.1));
    dx.par_chunks_mut((w * c).max(1))
        .enumerate()
        .for_each(|(r, dx)| {
            dx.fill(0.);
            let (image, iy) = (r / h, r % h);
            for (oy, wy) in &rows[iy] {
                let dy = &dy[(image * to.0 + oy) * to.1 * c..][..to.1 * c];
                scatter_row(level, dy, *wy, &columns, c, dx);
            }
        });
}

fn scatter_row(
    level: Level,
    dy: &[f32],
    wy: f32,
    columns: &[(usize, usize, f32)],
    c: usize,
    dx: &mut [f32],
) {
    for (dy, (x0, x1, wx)) in dy.chunks(c).zip(columns) {
        axpy(level, wy * (1. - wx), dy, &mut dx[x0 * c..][..c]);
        axpy(level, wy * wx, dy, &mut dx[x1 * c..][..c]);
    }
}
