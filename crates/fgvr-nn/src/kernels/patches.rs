//! Square patches of a map as rows, and back.

use rayon::prelude::*;

/// Cuts `x` (N, H, W, C) into patches of side `patch`, which divides H and W: `y` is (N, H/patch,
/// W/patch, C*patch*patch), a patch's values in the order (C, row, column) of a convolution's weight.
pub fn cut(x: &[f32], [_, h, w, c]: [usize; 4], patch: usize, y: &mut [f32]) {
    // A row of patches on either side.
    let band = patch * w * c;
    y.par_chunks_mut(band.max(1))
        .zip(x.par_chunks(band.max(1)))
        .for_each(|(y, x)| {
            debug_assert!(h.is_multiple_of(patch));
            for (index, y) in y.chunks_mut(c * patch * patch).enumerate() {
                for (place, x) in places(x, index, w, c, patch) {
                    for (channel, value) in x.iter().enumerate() {
                        y[channel * patch * patch + place] = *value;
                    }
                }
            }
        });
}

/// The reverse of [`cut`], and so its gradient: overwrites `dx`.
pub fn join(dy: &[f32], [_, _, w, c]: [usize; 4], patch: usize, dx: &mut [f32]) {
    let band = patch * w * c;
    dx.par_chunks_mut(band.max(1))
        .zip(dy.par_chunks(band.max(1)))
        .for_each(|(dx, dy)| {
            for (index, dy) in dy.chunks(c * patch * patch).enumerate() {
                for place in 0..patch * patch {
                    let start = start(place, index, w, c, patch);
                    for (channel, dx) in dx[start..start + c].iter_mut().enumerate() {
                        *dx = dy[channel * patch * patch + place];
                    }
                }
            }
        });
}

/// Where the channels of a place of patch `index` begin in a band of rows of `w` places.
fn start(place: usize, index: usize, w: usize, c: usize, patch: usize) -> usize {
    let (row, column) = (place / patch, place % patch);
    (row * w + index * patch + column) * c
}

/// The places of patch `index`, in order, each with its channels.
fn places(
    band: &[f32],
    index: usize,
    w: usize,
    c: usize,
    patch: usize,
) -> impl Iterator<Item = (usize, &[f32])> {
    (0..patch * patch).map(move |place| {
        let start = start(place, index, w, c, patch);
        (place, &band[start..start + c])
    })
}
