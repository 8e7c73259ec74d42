//! Do the channels that a mask keeps look at the parts that tell classes apart?

use candle_core::Tensor;

use crate::Error;
use crate::embeddings::{finite, shape};

pub(crate) const OP: &str = "part_hit";

/// Shares of activation that fall on discriminative parts.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PartHit {
    /// Mean share of the kept channels: first over the channels of an image, then over images.
    pub kept: f64,
    /// Mean share of the masked channels.
    pub masked: f64,
    /// `kept - masked`; above 0 where the mask spares the channels that see the parts.
    pub difference: f64,
    /// Mean share of the map that is part: what a channel that looks everywhere alike would have.
    pub area: f64,
    /// Images that count.
    pub images: usize,
    /// Images without a part, or without a live channel on either side of the mask.
    pub left_out: usize,
    /// Channels, summed over the images that have parts, whose activation is zero.
    pub silent_channels: usize,
}

impl PartHit {
    /// The figures of several batches as if they had been one.
    #[must_use]
    pub fn merge(batches: &[Self]) -> Self {
        let images: usize = batches.iter().map(|b| b.images).sum();
        let mean = |of: fn(&Self) -> f64| {
            let sum: f64 = batches.iter().map(|b| of(b) * b.images as f64).sum();
            sum / images.max(1) as f64
        };
        let (kept, masked) = (mean(|b| b.kept), mean(|b| b.masked));
        Self {
            kept,
            masked,
            difference: kept - masked,
            area: mean(|b| b.area),
            images,
            left_out: batches.iter().map(|b| b.left_out).sum(),
            silent_channels: batches.iter().map(|b| b.silent_channels).sum(),
        }
    }
}

/// For image `i` and channel `c`, `e_ic = sum_places F_ic P_i / sum_places F_ic`, with `P` the part mask
/// resized to the map by the mean over areas; compares the mean `e` over kept and over masked channels.
///
/// `map` (N, C, h, w) holds features >= 0, `mask` (N, C) is 1 for masked channels and 0 for kept ones,
/// `parts` (N, H, W) of any size is 1 on the parts and 0 elsewhere.
///
/// # Errors
/// Shapes that differ, values that are not finite or out of range, and a batch in which no image counts.
pub fn part_hit(map: &Tensor, mask: &Tensor, parts: &Tensor) -> Result<PartHit, Error> {
    let &[n, c, h, w] = map.dims() else {
        return Err(shape(OP, "map", map, "(N, C, h, w)"));
    };
    if n * c * h * w == 0 {
        return Err(shape(OP, "map", map, "no empty dimension"));
    }
    if mask.dims() != [n, c] {
        return Err(shape(OP, "mask", mask, format!("({n}, {c})")));
    }
    let size = match *parts.dims() {
        [images, height, width] if images == n && height * width > 0 => (height, width),
        _ => return Err(shape(OP, "parts", parts, format!("({n}, H, W)"))),
    };
    let (map, mask) = (finite(OP, "map", map)?, finite(OP, "mask", mask)?);
    in_range("mask", &mask, |v| v == 0. || v == 1., "0 or 1")?;
    let mask: Vec<bool> = mask.into_iter().map(|m| m == 1.).collect();
    let parts = finite(OP, "parts", parts)?;
    of_values(&map, [n, c, h, w], &mask, &parts, size)
}

/// What [`part_hit`] gives, from values that are known to be finite and not empty; `parts` are (N, H, W).
pub(crate) fn of_values(
    map: &[f32],
    [n, c, h, w]: [usize; 4],
    mask: &[bool],
    parts: &[f32],
    (height, width): (usize, usize),
) -> Result<PartHit, Error> {
    in_range("map", map, |v| v >= 0., "values >= 0")?;
    let unit = |v| (0. ..=1.).contains(&v);
    in_range("parts", parts, unit, "values in [0, 1]")?;

    let mut hit = PartHit {
        kept: 0.,
        masked: 0.,
        difference: 0.,
        area: 0.,
        images: 0,
        left_out: 0,
        silent_channels: 0,
    };
    for image in 0..n {
        let part = &parts[image * height * width..][..height * width];
        if part.iter().all(|p| *p == 0.) {
            hit.left_out += 1;
            continue;
        }
        let part = area_mean(part, (height, width), (h, w));
        // Sum of shares and number of channels: kept, masked.
        let mut sides = [(0., 0usize); 2];
        for channel in 0..c {
            let places = &map[(image * c + channel) * h * w..][..h * w];
            let total: f64 = places.iter().map(|f| f64::from(*f)).sum();
            if total == 0. {
                hit.silent_channels += 1;
                continue;
            }
            let on_part: f64 = places
                .iter()
                .zip(&part)
                .map(|(f, p)| f64::from(*f) * p)
                .sum();
            let side = &mut sides[usize::from(mask[image * c + channel])];
            side.0 += on_part / total;
            side.1 += 1;
        }
        let [(kept, kept_channels), (masked, masked_channels)] = sides;
        if kept_channels == 0 || masked_channels == 0 {
            hit.left_out += 1;
            continue;
        }
        hit.kept += kept / kept_channels as f64;
        hit.masked += masked / masked_channels as f64;
        hit.area += part.iter().sum::<f64>() / part.len() as f64;
        hit.images += 1;
    }
    if hit.images == 0 {
        let reason =
            format!("none of the {n} images has parts, and live channels both kept and masked");
        return Err(Error::Nothing { op: OP, reason });
    }
    let images = hit.images as f64;
    for sum in [&mut hit.kept, &mut hit.masked, &mut hit.area] {
        *sum /= images;
    }
    hit.difference = hit.kept - hit.masked;
    Ok(hit)
}

/// An error that shows the first value which is not `allowed`.
fn in_range(
    field: &'static str,
    values: &[f32],
    allowed: fn(f32) -> bool,
    expected: &'static str,
) -> Result<(), Error> {
    match values.iter().find(|v| !allowed(**v)) {
        None => Ok(()),
        Some(v) => Err(Error::Config {
            op: OP,
            field,
            value: v.to_string(),
            expected,
        }),
    }
}

/// Each of (h, w) places gets the mean of what it covers of `values` (H, W).
fn area_mean(values: &[f32], (height, width): (usize, usize), (h, w): (usize, usize)) -> Vec<f64> {
    let (rows, columns) = (cover(height, h), cover(width, w));
    let mut out = Vec::with_capacity(h * w);
    for row in &rows {
        for column in &columns {
            let mut sum = 0.;
            for (y, down) in row {
                for (x, along) in column {
                    sum += down * along * f64::from(values[y * width + x]);
                }
            }
            out.push(sum);
        }
    }
    out
}

/// For each of `to` equal stretches over `from` cells, the cells it covers and their shares of it.
fn cover(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    // In units of 1/to of a cell every border is a whole number.
    (0..to)
        .map(|stretch| {
            let (start, end) = (stretch * from, (stretch + 1) * from);
            (start / to..end.div_ceil(to))
                .map(|cell| {
                    let covered = end.min((cell + 1) * to) - start.max(cell * to);
                    (cell, covered as f64 / from as f64)
                })
                .collect()
        })
        .collect()
}
