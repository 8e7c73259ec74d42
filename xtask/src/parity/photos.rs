//! Photographs as a network for evaluation sees them, beside timm's transforms.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::progress::Progress;
use crate::server::Server;
use crate::table::Table;

/// Grey levels of 255 that a view may be off on average.
pub(super) const MOST: f64 = 1.;
/// How many photographs of a folder are looked at.
const PHOTOS: usize = 8;
/// Made by formula and committed; see preprocess.py beside them.
const COMMITTED: [&str; 2] = [
    "crates/fgvr-data/tests/golden/preprocess_wide.jpg",
    "crates/fgvr-data/tests/golden/preprocess_tall.png",
];
/// Size, crop_pct and interpolation: torchvision's usual, timm's of residual networks and ViTs, DINOv2's.
const SETTINGS: [&str; 5] = [
    "224 0.875 bilinear",
    "224 0.95 bicubic",
    "224 0.9 bicubic",
    "518 1.0 bicubic",
    "96 0.875 bicubic",
];

/// The differences of one setting over all photographs, in grey levels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    setting: &'static str,
    photos: usize,
    /// Over all photographs, and of the worst of them.
    mean: f64,
    worst: f64,
    max: f64,
}

/// The committed photographs, and some of `folder`, evenly from its files in order of path.
pub(super) fn paths(root: &Path, folder: Option<&Path>) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = COMMITTED.iter().map(|path| root.join(path)).collect();
    if let Some(folder) = folder {
        let mut found = Vec::new();
        collect(folder, &mut found)?;
        if found.is_empty() {
            bail!("--photos {}: no JPEG or PNG in it", folder.display());
        }
        found.sort();
        let count = found.len().min(PHOTOS);
        paths.extend((0..count).map(|i| found[i * found.len() / count].clone()));
    }
    Ok(paths)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot read {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            collect(&path, found)?;
        } else if extension.is_some_and(|e| ["jpg", "jpeg", "png"].contains(&&*e.to_lowercase())) {
            found.push(path);
        }
    }
    Ok(())
}

/// Both sides' views of `photos` in each setting.
pub(super) fn compare(
    ours: &mut Server,
    theirs: &mut Server,
    photos: &[PathBuf],
    file: &Path,
    progress: &mut Progress,
) -> Result<Vec<View>> {
    let mut views = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        progress.now(&format!("preprocessing {setting}"), "preparing");
        let (mut means, mut max) = (Vec::with_capacity(photos.len()), 0f64);
        for photo in photos {
            let request = format!(
                "preprocess {setting} {} {}",
                file.display(),
                photo.display()
            );
            ours.ask(&request)
                .with_context(|| format!("{request} on our side"))?;
            let answer = theirs
                .ask(&request)
                .with_context(|| format!("{request} in Python"))?;
            let number = |field: &str| {
                let number = answer[field].as_f64();
                number.with_context(|| format!("{request}: it said {answer}"))
            };
            means.push(number("mean")?);
            max = max.max(number("max")?);
            progress.step(1);
        }
        views.push(View {
            setting,
            photos: photos.len(),
            mean: means.iter().sum::<f64>() / means.len().max(1) as f64,
            worst: means.into_iter().fold(0., f64::max),
            max,
        });
    }
    Ok(views)
}

/// The units that [`compare`] steps through.
pub(super) fn cost(photos: &[PathBuf]) -> usize {
    SETTINGS.len() * photos.len()
}

impl View {
    pub(super) fn json(&self) -> Value {
        json!({
            "setting": self.setting,
            "photos": self.photos,
            "mean": self.mean,
            "worst_mean": self.worst,
            "max": self.max,
        })
    }

    /// What is too large.
    pub(super) fn failure(&self) -> Option<String> {
        (self.worst.is_nan() || self.worst > MOST).then(|| {
            format!(
                "preprocessing {}: off by {:.2} grey levels on average, more than {MOST}",
                self.setting, self.worst
            )
        })
    }
}

pub(super) fn table(views: &[View]) -> Table {
    let mut table = Table::new(&[
        "size, crop_pct, interpolation",
        "photographs",
        "mean",
        "mean of the worst",
        "largest",
    ]);
    for view in views {
        table.row(vec![
            view.setting.replace(' ', ", "),
            view.photos.to_string(),
            format!("{:.2}", view.mean),
            format!("{:.2}", view.worst),
            format!("{:.1}", view.max),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_photographs_are_always_looked_at() {
        let root = crate::workspace::root().unwrap();
        let paths = paths(&root, None).unwrap();
        assert!(paths.len() == 2 && paths.iter().all(|path| path.is_file()));
        let error = super::paths(&root, Some(&root.join("xtask/src"))).unwrap_err();
        assert!(error.to_string().contains("no JPEG or PNG"), "{error}");
    }

    #[test]
    fn a_view_fails_by_its_worst_photograph() {
        let view = |worst| View {
            setting: SETTINGS[0],
            photos: 2,
            mean: 0.3,
            worst,
            max: 5.,
        };
        assert_eq!(view(0.9).failure(), None);
        assert!(view(1.2).failure().unwrap().contains("1.20 grey levels"));
        assert!(
            table(&[view(0.9)])
                .markdown()
                .contains("| 224, 0.875, bilinear")
        );
    }
}
