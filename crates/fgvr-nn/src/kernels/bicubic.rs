//! Bicubic resizing with antialiasing, as PyTorch's `interpolate(mode="bicubic", antialias=True)`
//! and as image libraries do it: separable, the kernel as wide as the reduction.

use std::ops::Range;

use crate::Buffer;

/// Keys's cubic kernel with a = -0.5 (doi:10.1109/TASSP.1981.1163711, eq. 15), where resizing
/// without antialiasing has -0.75 in PyTorch.
fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1. {
        ((A + 2.) * x - (A + 3.)) * x * x + 1.
    } else if x < 2. {
        (((x - 5.) * x + 8.) * x - 4.) * A
    } else {
        0.
    }
}

/// Half the width of [`kernel`].
const SUPPORT: f64 = 2.;

/// For each output index along one side, the source indices it reads and their weights, which add up
/// to one: at the border the kernel is cut off and scaled up.
fn taps(from: usize, to: usize) -> Vec<(Range<usize>, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    // Enlarging, the kernel keeps its width.
    let stretch = scale.max(1.);
    (0..to)
        .map(|o| {
            let centre = scale * (o as f64 + 0.5);
            let low = (centre - SUPPORT * stretch + 0.5).max(0.) as usize;
            let high = ((centre + SUPPORT * stretch + 0.5) as usize).min(from);
            let weights: Vec<f64> = (low..high)
                .map(|i| kernel((i as f64 + 0.5 - centre) / stretch))
                .collect();
            let total: f64 = weights.iter().sum();
            let weights = weights.iter().map(|w| (w / total) as f32).collect();
            (low..high, weights)
        })
        .collect()
}

/// One side of a resize: `outer` blocks of (from, inner) values become (to, inner).
fn along(
    x: &[f32],
    [from, to, inner]: [usize; 3],
    taps: &[(Range<usize>, Vec<f32>)],
    y: &mut [f32],
) {
    for (x, y) in x.chunks(from * inner).zip(y.chunks_mut(to * inner)) {
        for (y, (range, weights)) in y.chunks_mut(inner).zip(taps) {
            y.fill(0.);
            for (i, weight) in range.clone().zip(weights) {
                let x = &x[i * inner..][..inner];
                y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
            }
        }
    }
}

/// The reverse of [`along`]: each output's gradient goes to what it read.
fn along_grad(
    dy: &[f32],
    [from, to, inner]: [usize; 3],
    taps: &[(Range<usize>, Vec<f32>)],
    dx: &mut [f32],
) {
    dx.fill(0.);
    for (dx, dy) in dx.chunks_mut(from * inner).zip(dy.chunks(to * inner)) {
        for (dy, (range, weights)) in dy.chunks(inner).zip(taps) {
            for (i, weight) in range.clone().zip(weights) {
                let dx = &mut dx[i * inner..][..inner];
                dx.iter_mut()
                    .zip(dy)
                    .for_each(|(dx, dy)| *dx += weight * dy);
            }
        }
    }
}

/// `x` (h, w, C) resized to `to` = (h', w'), columns first: `y` is (h', w', C). No size is zero.
pub fn resize(x: &[f32], [h, w, c]: [usize; 3], to: [usize; 2], y: &mut [f32]) {
    let mut wide = Buffer::scratch(h * to[1] * c);
    along(x, [w, to[1], c], &taps(w, to[1]), &mut wide);
    along(&wide, [h, to[0], to[1] * c], &taps(h, to[0]), y);
}

/// The gradient of [`resize`]; overwrites `dx` (h, w, C).
pub fn resize_grad(dy: &[f32], [h, w, c]: [usize; 3], to: [usize; 2], dx: &mut [f32]) {
    let mut wide = Buffer::scratch(h * to[1] * c);
    along_grad(dy, [h, to[0], to[1] * c], &taps(h, to[0]), &mut wide);
    along_grad(&wide, [w, to[1], c], &taps(w, to[1]), dx);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_is_left_as_it_is() {
        let x: Vec<f32> = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
        let mut y = vec![0.; 24];
        resize(&x, [4, 3, 2], [4, 3], &mut y);
        assert_eq!(x, y);
    }

    #[test]
    fn a_constant_stays_one_at_any_size() {
        for (from, to) in [(1, 5), (7, 3), (37, 16), (3, 11)] {
            let mut y = vec![0.; to * to];
            resize(&vec![3.; from * from], [from, from, 1], [to, to], &mut y);
            assert!(y.iter().all(|y| (y - 3.).abs() < 1e-5), "{from} to {to}");
        }
    }
}
