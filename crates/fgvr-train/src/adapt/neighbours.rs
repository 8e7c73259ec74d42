//! `neighbours.png`: what some held-out photos find before and after.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use fgvr_data::augment::{EvaluationView, Fit, Interpolation};
use fgvr_data::{Dataset, Normalisation, load_whole};
use fgvr_perturb::Adaptation;

use crate::Result;
use fgvr_report::{Sheet, SheetRow};

/// Photos that ask: spread evenly over those that are held out, whatever they find.
const ASKING: usize = 8;
/// Photos that each of them is shown to find.
const FOUND: usize = 4;
/// Side of a thumbnail in pixels.
const SIDE: usize = 96;

/// Photos with their plain features: row i is of photo `numbers[i]`.
pub(super) struct Seen<'a> {
    pub(super) numbers: &'a [usize],
    pub(super) features: &'a [f32],
}

/// The sheet of photos of one set that look among those of another, or `None` where there is nothing to show.
///
/// # Errors
/// Features that are not finite, or a photo that can no longer be read.
pub(super) fn sheet(
    [set, searched]: [&Arc<dyn Dataset>; 2],
    asking: &Seen<'_>,
    among: &Seen<'_>,
    adaptation: &Adaptation,
) -> Result<Option<Sheet>> {
    let (width, photos) = (adaptation.width(), asking.numbers.len());
    if photos == 0 || among.numbers.len() < FOUND {
        return Ok(None);
    }
    let shown = ASKING.min(photos);
    let chosen: Vec<usize> = (0..shown).map(|i| i * photos / shown).collect();
    let adapted_among = adaptation.apply(among.features)?;
    let mut rows = Vec::new();
    for row in chosen {
        let query = &asking.features[row * width..(row + 1) * width];
        let adapted = adaptation.apply(query)?;
        let mut images = vec![thumbnail(set, asking.numbers[row])?];
        for (query, gallery) in [(query, among.features), (&adapted, &adapted_among)] {
            for found in nearest(query, gallery, width) {
                images.push(thumbnail(searched, among.numbers[found])?);
            }
        }
        let label = match set.label(asking.numbers[row]) {
            Some(label) => set.classes().get(label as usize).cloned(),
            None => None,
        };
        rows.push(SheetRow {
            label: label.unwrap_or_default(),
            images,
        });
    }
    let mut columns = vec!["photo".to_owned()];
    for kind in ["plain", "adapted"] {
        columns.extend((1..=FOUND).map(|place| format!("{kind} {place}")));
    }
    Ok(Some(Sheet {
        columns,
        rows,
        scale: Some(1),
    }))
}

/// Rows of `gallery` that are nearest to `query` by cosine, nearest first, equally near ones by number.
fn nearest(query: &[f32], gallery: &[f32], width: usize) -> Vec<usize> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let mut scores: Vec<(f64, usize)> = gallery
        .chunks_exact(width)
        .map(|row| dot(query, row) / dot(row, row).sqrt().max(f64::MIN_POSITIVE))
        .zip(0..)
        .collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scores.into_iter().take(FOUND).map(|(_, row)| row).collect()
}

/// The middle of a photo, (3, SIDE, SIDE) in [0, 1].
fn thumbnail(set: &Arc<dyn Dataset>, number: usize) -> Result<Tensor> {
    let view = EvaluationView {
        size: SIDE,
        fit: Fit::Crop(SIDE),
        interpolation: Interpolation::Bilinear,
    };
    let image = load_whole(set.as_ref(), number)?;
    let values = view.apply(&image, &Normalisation::none());
    Ok(Tensor::from_vec(values, (3, SIDE, SIDE), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_by_direction_and_then_by_number() {
        let gallery = [0., 2., 1., 0.25, 4., 1., -1., 0., 2., 0.5];
        assert_eq!(nearest(&[1., 0.25], &gallery, 2), [1, 2, 4, 0]);
    }
}
