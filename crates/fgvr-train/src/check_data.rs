//! What is in a data set, before anything is trained or judged on it.

use fgvr_data::check::{DataCheck, NEAR, Pair, check};
use fgvr_data::{Dataset, Normalisation, Splits, augment::EvaluationView, load_batch, shown};
use fgvr_report::{RgbSheet, Sheet, SheetRow};

use crate::config::{Layers, Use};
use crate::{Error, Observer, Result};

/// Side of a picture on the sheet, in pixels.
const SIDE: usize = 192;
/// Pairs on a sheet at most.
const ROWS: usize = 40;
/// Most bits in which hashes may be said to be near: beyond, most pictures are.
const FARTHEST: u32 = 20;

/// Looks at every photo of `source`: `settings` are `data.*`, each `key.path=value`, and `near` the bits in which perceptual
/// hashes of near-duplicates may differ.
///
/// # Errors
/// A data set that cannot be opened, settings that are unknown or have no effect, a `near` above 20.
pub fn check_data(
    source: &str,
    settings: &[String],
    near: Option<u32>,
    observer: &mut dyn Observer,
) -> Result<(DataCheck, Splits)> {
    let near = near.unwrap_or(NEAR);
    if near > FARTHEST {
        return Err(Error::config(
            "--near",
            format!(
                "expected at most {FARTHEST} of 63 bits, found {near}; beyond, most pictures are near"
            ),
        ));
    }
    let mut layers = Layers::default();
    for setting in settings {
        if !setting.trim_start().starts_with("data.") {
            let problem = "has no effect on what is in a data set; what can be set is data.*";
            return Err(Error::config(format!("--set {setting}"), problem));
        }
        layers.set_for(Use::Embed, setting)?;
    }
    let data = layers.resolve_frozen()?.data;
    let splits = fgvr_data::open(source, &data)?;
    observer.on_data(&splits.found);
    let images = splits.found.images;
    let total = images.train + images.val + images.test.unwrap_or(0);
    observer.on_phase(&format!("looking at {total} images"));
    let mut progress = |done, of| observer.on_images(done, of);
    Ok((check(&splits, near, data.max_pixels, &mut progress), splits))
}

/// The first pairs of `check` side by side, for a person to judge; `None` without any.
///
/// # Errors
/// A photo that cannot be read any more.
pub fn pair_sheet(check: &DataCheck, splits: &Splits) -> Result<Option<RgbSheet>> {
    let rows: Result<Vec<SheetRow>> = check
        .listed
        .iter()
        .take(ROWS)
        .enumerate()
        .map(|(number, pair)| row(number + 1, pair, splits))
        .collect();
    let rows = rows?;
    if rows.is_empty() {
        return Ok(None);
    }
    let sheet = Sheet {
        columns: vec!["first".to_owned(), "second".to_owned()],
        rows,
        scale: Some(1),
    };
    Ok(Some(sheet.draw()?))
}

fn row(number: usize, pair: &Pair, splits: &Splits) -> Result<SheetRow> {
    let mut images = Vec::new();
    for photo in &pair.photos {
        let set: &dyn Dataset = match (photo.split, &splits.test) {
            ("val", _) => splits.val.as_ref(),
            ("test", Some(test)) => test.as_ref(),
            _ => splits.train.as_ref(),
        };
        let view = EvaluationView {
            fit: fgvr_data::augment::Fit::Squash,
            ..EvaluationView::of_ratio(SIDE, 1.)
        };
        let loaded = load_batch(set, &[photo.index], &view, &Normalisation::none())?;
        let Some(image) = loaded.images else {
            let reason = loaded.unreadable.first().map(|bad| bad.reason.clone());
            let reason = reason.unwrap_or_else(|| "cannot be read".to_owned());
            return Err(Error::config(shown(&photo.id), reason));
        };
        images.push(image.squeeze(0)?);
    }
    let [first, second] = &pair.photos;
    let how = match (pair.exact, pair.distance) {
        (true, _) => "same bytes".to_owned(),
        (_, 1) => "1 bit".to_owned(),
        (_, bits) => format!("{bits} bits"),
    };
    Ok(SheetRow {
        label: format!("{number}: {} {}, {how}", first.split, second.split),
        images,
    })
}
