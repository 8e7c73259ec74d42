//! From a data set's name to its splits.

use std::path::Path;
use std::sync::Arc;

use crate::folder::{Folder, Labels};
use crate::split::held_out;
use crate::{Dataset, Error, Lookalikes, LookalikesConfig, MAX_PIXELS, Split};

/// How a data set is opened.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct DataConfig {
    /// Side of the images that the network sees, in pixels. Photos are kept as they are; built-in
    /// images are made at this size.
    pub size: usize,
    /// Of the hash that decides what is held out of a folder. Runs that are to be compared keep it
    /// the same: it is not the seed of a run.
    pub seed: u64,
    /// Share of the training images of every class held out as `val`, in [0, 1).
    pub val_fraction: f64,
    /// Share of the images of every class held out as `test`, in [0, 1), where a folder has labels
    /// and no `test/` of its own.
    pub test_fraction: f64,
    /// Of `builtin:lookalikes`.
    pub lookalikes: LookalikesConfig,
    /// Where the labels of a folder's photos come from.
    pub labels: Labels,
    /// Photos with more pixels than this are refused before they are decoded. Each thread that decodes
    /// needs 3 bytes a pixel of its photo, 6 to turn it, 6 to 9 for a progressive JPEG.
    pub max_pixels: u64,
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
    /// Held out of the training images, for choices; never test images. Empty when
    /// [`DataConfig::val_fraction`] is 0.
    pub val: Arc<dyn Dataset>,
    /// To report on, where there is one.
    pub test: Option<Arc<dyn Dataset>>,
    /// The name that was opened.
    pub name: String,
}

/// Opens the built-in set, `builtin:lookalikes`, or a folder of photos:
///
/// - With a folder `train/` in it, that is what is trained on, and `test/`, if there, is the test
///   split. The two share one list of classes, so labels mean the same in both.
/// - Otherwise the photos of the folder itself are split by a hash of their relative paths. Without
///   labels there is nothing to score, hence no test split.
///
/// `val` is held out of the training photos by the same kind of hash, class by class where there
/// are labels; adding photos to one class moves none of another class.
///
/// # Errors
/// [`Error::UnknownSet`] for an unknown `builtin:` name, [`Error::Setting`] for a setting outside
/// its range, [`Error::Layout`] for a `test/` without `train/` or with labels in only one of them,
/// and those of [`Folder::new`].
pub fn open(spec: &str, cfg: &DataConfig) -> Result<Splits, Error> {
    cfg.validate()?;
    if spec == "builtin:lookalikes" {
        return lookalikes(spec, cfg);
    }
    if spec.is_empty() || spec.starts_with("builtin:") {
        return Err(Error::UnknownSet {
            spec: spec.to_owned(),
        });
    }
    let root = Path::new(spec);
    let (train_root, test_root) = (root.join("train"), root.join("test"));
    let (train, test) = if train_root.is_dir() {
        let test = test_root.is_dir().then_some(test_root.as_path());
        train_and_test(&train_root, test, cfg)?
    } else if test_root.is_dir() {
        return Err(Error::Layout {
            path: root.to_owned(),
            problem: "has a folder test/ but no train/".to_owned(),
        });
    } else {
        split_by_hash(root, cfg)?
    };
    let held_out = held_out(train.photos(), cfg.val_fraction, cfg.seed, "val");
    Ok(Splits {
        val: Arc::new(train.subset(|i| held_out[i])),
        train: Arc::new(train.subset(|i| !held_out[i])),
        test: test.map(|test| Arc::new(test) as Arc<dyn Dataset>),
        name: spec.to_owned(),
    })
}

fn lookalikes(spec: &str, cfg: &DataConfig) -> Result<Splits, Error> {
    let split = |split| -> Result<Arc<dyn Dataset>, Error> {
        Ok(Arc::new(Lookalikes::new(&cfg.lookalikes, cfg.size, split)?))
    };
    let test = split(Split::Test)?;
    Ok(Splits {
        train: split(Split::Train)?,
        val: split(Split::Val)?,
        test: (!test.is_empty()).then_some(test),
        name: spec.to_owned(),
    })
}

fn train_and_test(
    train: &Path,
    test: Option<&Path>,
    cfg: &DataConfig,
) -> Result<(Folder, Option<Folder>), Error> {
    let mut train_set = Folder::new(train, cfg.labels, cfg.max_pixels)?;
    let mut test_set = match test {
        Some(path) => Some(Folder::new(path, cfg.labels, cfg.max_pixels)?),
        None => None,
    };
    if let Some(test_set) = &mut test_set {
        if train_set.classes().is_empty() != test_set.classes().is_empty() {
            return Err(Error::Layout {
                path: train.to_owned(),
                problem: "class folders in only one of train/ and test/".to_owned(),
            });
        }
        let mut classes = [train_set.classes(), test_set.classes()].concat();
        if !classes.is_empty() {
            classes.sort();
            classes.dedup();
            train_set.set_classes(&classes);
            test_set.set_classes(&classes);
        }
        test_set.prefix_ids("test");
    }
    train_set.prefix_ids("train");
    Ok((train_set, test_set))
}

fn split_by_hash(root: &Path, cfg: &DataConfig) -> Result<(Folder, Option<Folder>), Error> {
    let all = Folder::new(root, cfg.labels, cfg.max_pixels)?;
    if all.classes().is_empty() || cfg.test_fraction == 0. {
        return Ok((all, None));
    }
    let test = held_out(all.photos(), cfg.test_fraction, cfg.seed, "test");
    Ok((all.subset(|i| !test[i]), Some(all.subset(|i| test[i]))))
}

#[cfg(test)]
mod tests;
