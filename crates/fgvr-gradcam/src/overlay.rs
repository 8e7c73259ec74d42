//! A map of places drawn over its image.

use crate::{ColourMap, Error};

/// Share of the colour in the blend; the rest is the image.
const OPACITY: f32 = 0.5;

/// The overlay (3, H, W) of an image (3, H, W) and a map (h, w), none of them empty; lengths are the caller's care.
pub(crate) fn of_values(
    pixels: &[f32],
    (height, width): (usize, usize),
    map: &[f32],
    (h, w): (usize, usize),
    colours: ColourMap,
) -> Result<Vec<f32>, Error> {
    if let Some(at) = map.iter().position(|v| !v.is_finite() || *v < 0.) {
        return Err(Error::MapValue {
            value: map[at],
            row: at / w,
            column: at % w,
        });
    }
    let map = resize(map, (h, w), (height, width));
    let top = map.iter().copied().fold(0., f32::max);
    let scale = if top > 0. { 1. / top } else { 0. };
    let places = height * width;
    let mut out = vec![0.; 3 * places];
    for (place, value) in map.iter().enumerate() {
        for (channel, colour) in colours.rgb(value * scale).into_iter().enumerate() {
            let at = channel * places + place;
            out[at] = (1. - OPACITY) * pixels[at].clamp(0., 1.) + OPACITY * colour;
        }
    }
    Ok(out)
}

/// Bilinear resize of `map` (h, w) to (H, W), half-pixel centres.
fn resize(map: &[f32], (h, w): (usize, usize), (height, width): (usize, usize)) -> Vec<f32> {
    let rows = taps(h, height);
    let columns = taps(w, width);
    let mut out = Vec::with_capacity(height * width);
    for &(top, bottom, down) in &rows {
        for &(left, right, along) in &columns {
            let row = |y: usize| {
                let (a, b) = (map[y * w + left], map[y * w + right]);
                a + along * (b - a)
            };
            let (a, b) = (row(top), row(bottom));
            out.push(a + down * (b - a));
        }
    }
    out
}

/// For each of `to` places, its two neighbours among `from` and the share of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let ratio = from as f64 / to as f64;
    (0..to)
        .map(|at| {
            let centre = ((at as f64 + 0.5) * ratio - 0.5).max(0.);
            let low = (centre as usize).min(from - 1);
            (low, (low + 1).min(from - 1), (centre - low as f64) as f32)
        })
        .collect()
}
