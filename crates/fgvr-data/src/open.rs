//! From a data set's name to its splits.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::folder::{Folder, Labels, Reading, scan};
use crate::found::{Found, SplitCounts, listed};
use crate::layout::{Layout, layout};
use crate::split::held_out;
use crate::{
    Crop, DataLayout, Dataset, Error, Level, Lookalikes, LookalikesConfig, MAX_PIXELS, Split,
    path_of, sets, shards,
};

/// How a data set is opened.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct DataConfig {
    /// Side of the images that the network sees, in pixels. Photos are kept as they are; built-in
    /// images are made at this size. By default 64.
    pub size: usize,
    /// Seed of the hash that decides what is held out of a folder. Runs that are to be compared keep it
    /// the same: it is not the seed of a run. By default 0.
    pub seed: u64,
    /// Share of the training images of every class held out as `val`, in [0, 1), where a folder has
    /// no `val/` of its own. By default 0.1.
    pub val_fraction: f64,
    /// Share of the images of every class held out as `test`, in [0, 1), where a folder has labels
    /// and no splits of its own. By default 0.2.
    pub test_fraction: f64,
    /// Of `builtin:lookalikes`; its fields say their defaults.
    pub lookalikes: LookalikesConfig,
    /// Where the labels of a folder's photos come from. By default [`Labels::Auto`].
    pub labels: Labels,
    /// Photos with more pixels than this are refused before they are decoded. Each thread that decodes
    /// needs 3 bytes a pixel of its photo, 6 to turn it, 6 to 9 for a progressive JPEG. By default [`MAX_PIXELS`].
    pub max_pixels: u64,
    /// Whether a run remembers a SHA-256 of every photo beside its name and size, and so notices another content of
    /// the same size. All photos are read once more for it. By default false.
    pub hash_contents: bool,
    /// How a folder is laid out. By default [`DataLayout::Auto`].
    pub layout: DataLayout,
    /// What the classes of FGVC-Aircraft are. By default [`Level::Variant`].
    pub level: Level,
    /// What of each image is used, of a set that has boxes. By default [`Crop::None`].
    pub crop: Crop,
    /// With [`Crop::Box`], how much is left around the box on each side, as a share of its longer side, in [0, 10]. By
    /// default 0.
    pub crop_margin: f64,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            size: 64,
            seed: 0,
            val_fraction: 0.1,
            test_fraction: 0.2,
            lookalikes: LookalikesConfig::default(),
            labels: Labels::Auto,
            max_pixels: MAX_PIXELS,
            hash_contents: false,
            layout: DataLayout::Auto,
            level: Level::Variant,
            crop: Crop::None,
            crop_margin: 0.,
        }
    }
}

impl DataConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// The first setting outside its range, [`Error::Setting`].
    pub fn validate(&self) -> Result<(), Error> {
        let setting = |setting, found: String, expected: &str| {
            Err(Error::Setting {
                setting,
                found,
                expected: expected.to_owned(),
            })
        };
        for (name, fraction) in [
            ("data.val_fraction", self.val_fraction),
            ("data.test_fraction", self.test_fraction),
        ] {
            if !(0. ..1.).contains(&fraction) {
                return setting(name, fraction.to_string(), "a number in [0, 1)");
            }
        }
        if !(0. ..=10.).contains(&self.crop_margin) {
            let found = self.crop_margin.to_string();
            return setting("data.crop_margin", found, "a number from 0 to 10");
        }
        if self.size == 0 {
            return setting("data.size", "0".to_owned(), "at least one pixel");
        }
        if self.max_pixels == 0 {
            return setting("data.max_pixels", "0".to_owned(), "at least one pixel");
        }
        Ok(())
    }
}

/// The parts of a data set.
#[derive(Clone)]
pub struct Splits {
    /// To train on, without `val`.
    pub train: Arc<dyn Dataset>,
    /// A folder's own `val/`, or held out of the training images, for choices; never test images.
    /// Empty without such a folder when [`DataConfig::val_fraction`] is 0.
    pub val: Arc<dyn Dataset>,
    /// To report on, where there is one. It may be without labels where `train` has some.
    pub test: Option<Arc<dyn Dataset>>,
    /// The name that was opened.
    pub name: String,
    /// What was found there, and what of it is not used.
    pub found: Found,
}

/// Opens the built-in set, `builtin:lookalikes`, tar shards as [`Shards`](crate::Shards) says, a known set as its archive is laid out
/// ([`sets`](crate::sets)), or a folder of photos:
///
/// - Where the folders in it are splits (`train`, `training`; `val`, `valid`, `validation`, `dev`;
///   `test`, `testing`; in either case), what `train/` holds is trained on, `val/` is validated on and
///   `test/` is tested on. A folder with another name beside them makes all of them classes, unless
///   `train/` holds class folders and another split is there.
/// - Otherwise the photos of the folder itself are split by a hash of their relative paths. Without
///   labels there is nothing to score, hence no test split.
///
/// Without `val/`, `val` is held out of the training photos by the same kind of hash, class by class
/// where there are labels; adding photos to one class moves none of another class. All splits share
/// one list of classes, so labels mean the same in each; a split whose photos lie in no class
/// folders is without labels. Names of classes are compared in Unicode's composed form (NFC).
///
/// `spec` may be a path as [`id_of`](crate::id_of) writes it. [`Splits::found`] says what was passed
/// over.
///
/// # Errors
/// [`Error::UnknownSet`] for an unknown `builtin:` name, [`Error::Setting`] for a setting outside
/// its range, [`Error::Layout`] for a `test/` without `train/` and a known set that is not all there, [`Error::Index`] for
/// lists of a known set that contradict each other, [`Error::Shard`] and [`Error::NoShard`] for tar shards, and those of [`Folder::new`].
pub fn open(spec: &str, cfg: &DataConfig) -> Result<Splits, Error> {
    cfg.validate()?;
    let uncropped = |expected: &str| match cfg.crop {
        Crop::None => Ok(()),
        Crop::Box => Err(Error::Setting {
            setting: "data.crop",
            found: "box".to_owned(),
            expected: format!("none: {expected}"),
        }),
    };
    if spec == "builtin:lookalikes" {
        uncropped("the built-in set has no boxes")?;
        return lookalikes(spec, cfg);
    }
    if spec.is_empty() || spec.starts_with("builtin:") {
        return Err(Error::UnknownSet {
            spec: spec.to_owned(),
        });
    }
    let literal = Path::new(spec);
    let root = match literal.symlink_metadata() {
        Ok(_) => literal.to_owned(),
        Err(_) => path_of(spec),
    };
    let root = root.as_path();
    const NO_BOXES: &str = "tar shards have no boxes";
    if let Some(splits) = shards::open_named(spec, root, cfg)? {
        uncropped(NO_BOXES)?;
        return Ok(splits);
    }
    if let Some(splits) = sets::open(root, spec, cfg)? {
        return Ok(splits);
    }
    let mut scan = match scan(root) {
        Err(none @ Error::NoPhotos { .. }) => {
            let splits = shards::open_folder(spec, root, cfg)?.ok_or(none)?;
            uncropped(NO_BOXES)?;
            return Ok(splits);
        }
        scan => scan?,
    };
    uncropped("folders of photos have no boxes")?;
    let mut found = std::mem::take(&mut scan.found);
    found.source = spec.to_owned();
    let folder = |photos| Folder::of(root, photos, cfg.max_pixels);
    let (train, val, test) = match layout(root, scan, &mut found)? {
        Layout::Whole(photos) => {
            let (train, test) = whole(folder(photos), cfg, &mut found)?;
            (train, None, test)
        }
        Layout::Split(parts) => {
            let [train, val, test] = own_splits(parts.map(folder), cfg, &mut found)?;
            let some = |part: Folder| (!part.is_empty()).then_some(part);
            (train, some(val), some(test))
        }
    };
    let (train, val) = match val {
        Some(val) => (train, val),
        None => {
            found.held_out.val = true;
            let held_out = held_out(train.photos(), cfg.val_fraction, cfg.seed, "val");
            let val = train.subset(|i| held_out[i]);
            (train.subset(|i| !held_out[i]), val)
        }
    };
    found.images = SplitCounts {
        train: train.len(),
        val: val.len(),
        test: test.as_ref().map(Folder::len),
    };
    Ok(Splits {
        val: Arc::new(val),
        train: Arc::new(train),
        test: test.map(|test| Arc::new(test) as Arc<dyn Dataset>),
        name: spec.to_owned(),
        found,
    })
}

fn lookalikes(spec: &str, cfg: &DataConfig) -> Result<Splits, Error> {
    let split = |split| -> Result<Arc<dyn Dataset>, Error> {
        Ok(Arc::new(Lookalikes::new(&cfg.lookalikes, cfg.size, split)?))
    };
    let (train, val, test) = (
        split(Split::Train)?,
        split(Split::Val)?,
        Some(split(Split::Test)?).filter(|test| !test.is_empty()),
    );
    let found = Found {
        source: spec.to_owned(),
        images: SplitCounts {
            train: train.len(),
            val: val.len(),
            test: test.as_ref().map(|test| test.len()),
        },
        classes: train.classes().len(),
        ..Found::default()
    };
    Ok(Splits {
        train,
        val,
        test,
        name: spec.to_owned(),
        found,
    })
}

/// The photos of a folder with their classes, and of them those held out to test on, where there are
/// classes.
fn whole(
    mut all: Folder,
    cfg: &DataConfig,
    found: &mut Found,
) -> Result<(Folder, Option<Folder>), Error> {
    let reading = all.read(cfg.labels, 0)?;
    if !reading.labelled(cfg.labels) {
        if cfg.labels == Labels::Auto {
            found.notes.extend(all.why_unlabelled(&reading, 0));
        }
        return Ok((all, None));
    }
    found.left_out = all.leave_out(&reading.loose);
    let classes: Vec<String> = reading.classes.into_iter().collect();
    all.set_classes(&classes, 0);
    found.classes = classes.len();
    if cfg.test_fraction == 0. {
        return Ok((all, None));
    }
    found.held_out.test = true;
    let test = held_out(all.photos(), cfg.test_fraction, cfg.seed, "test");
    Ok((all.subset(|i| !test[i]), Some(all.subset(|i| test[i]))))
}

/// The splits that a folder has, to train, validate and test on, with the classes that they share.
fn own_splits(
    mut parts: [Folder; 3],
    cfg: &DataConfig,
    found: &mut Found,
) -> Result<[Folder; 3], Error> {
    let mut readings = Vec::new();
    for part in &parts {
        readings.push(part.read(cfg.labels, 1)?);
    }
    // One class folder is enough where another split has two.
    let some = readings.iter().any(|reading| reading.labelled(cfg.labels));
    let labelled = |reading: &Reading| match cfg.labels {
        Labels::Auto => some && reading.in_class_folders(1),
        labels => reading.labelled(labels),
    };
    let with_labels: Vec<bool> = readings.iter().map(labelled).collect();
    let classes: BTreeSet<String> = readings
        .iter()
        .zip(&with_labels)
        .filter(|(_, labelled)| **labelled)
        .flat_map(|(reading, _)| reading.classes.iter().cloned())
        .collect();
    let classes: Vec<String> = classes.into_iter().collect();
    found.classes = classes.len();
    for ((part, reading), labelled) in parts.iter_mut().zip(&readings).zip(with_labels) {
        if labelled {
            found.left_out.extend(part.leave_out(&reading.loose));
            part.set_classes(&classes, 1);
            continue;
        }
        let Some(name) = part.photos().first().and_then(|p| p.id.split('/').next()) else {
            continue;
        };
        if some {
            found.notes.push(format!(
                "{name}/ is not in class folders as the other splits are: its {} without labels",
                counted_are(part.len())
            ));
        } else if cfg.labels == Labels::Auto {
            found.notes.extend(part.why_unlabelled(reading, 1));
        }
    }
    let seen = labels_of(&parts[0]);
    for (part, purpose) in parts[1..].iter().zip(["validate", "test"]) {
        let lacking: Vec<String> = labels_of(part)
            .difference(&seen)
            .filter_map(|label| classes.get(*label as usize).cloned())
            .collect();
        if !(seen.is_empty() || lacking.is_empty()) {
            let what = if lacking.len() == 1 {
                "a class"
            } else {
                "classes"
            };
            let names = listed(&lacking);
            found.notes.push(format!(
                "there is nothing to train on of {what} to {purpose} on: {names}"
            ));
        }
    }
    Ok(parts)
}

fn labels_of(part: &Folder) -> BTreeSet<u32> {
    part.photos()
        .iter()
        .filter_map(|photo| photo.label)
        .collect()
}

fn counted_are(images: usize) -> String {
    match images {
        1 => "1 image is".to_owned(),
        images => format!("{images} images are"),
    }
}

#[cfg(test)]
mod tests;
