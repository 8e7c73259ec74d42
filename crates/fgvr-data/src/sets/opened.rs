//! From a folder that holds a set to its splits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::index::{Entry, Files, Index, Parts};
use super::listed::{Listed, Shared};
use super::recognise::{Recognised, recognise};
use super::{Crop, DataLayout, boxes::Bounds};
use crate::folder::Photo;
use crate::found::{HeldOut, SplitCounts, listed};
use crate::name::class_name;
use crate::split::held_out;
use crate::{DataConfig, Dataset, Error, Found, Labels, Split, Splits, shown};

/// The splits of the set that the folder `root`, called `spec`, holds; `None` where it holds none.
///
/// # Errors
/// A set that is not all there, or whose lists contradict each other; settings that it does not go with.
pub(crate) fn open(root: &Path, spec: &str, cfg: &DataConfig) -> Result<Option<Splits>, Error> {
    if cfg.layout == DataLayout::Folders {
        return Ok(None);
    }
    if cfg.layout != DataLayout::Auto && !root.is_dir() {
        let path = root.to_owned();
        return Err(match root.exists() {
            true => Error::NotAFolder { path },
            false => Error::NoFolder { path },
        });
    }
    let layout = |problem: String| Error::Layout {
        path: root.to_owned(),
        problem,
    };
    let has = |name: &str| root.join(name).exists();
    let mut sets = recognise(has, cfg.layout.set());
    let Some(set) = sets.pop() else {
        return Ok(None);
    };
    if !sets.is_empty() {
        sets.push(set);
        let names: Vec<String> = sets.iter().map(|set| set.set.name().to_owned()).collect();
        let problem = "holds more than one set; name the folder of one, or set data.layout";
        return Err(layout(format!("{problem}: {}", listed(&names))));
    }
    if !set.missing.is_empty() {
        let name = set.set.name();
        let missing: Vec<String> = set.missing.iter().map(|name| (*name).to_owned()).collect();
        return Err(layout(format!(
            "{name} that is not all there: {} missing; unpack its archives again, or set data.layout=folders to take it \
             for folders of photos",
            listed(&missing)
        )));
    }
    let folder = match set.inside {
        "" => root.to_owned(),
        inside => root.join(inside),
    };
    let files = Files {
        root: &folder,
        memory: None,
    };
    let index = super::lists(set.set, &files, cfg.level)?;
    all_there(&folder, &set, &index)?;
    let splits = splits(&folder, spec, &set, index, cfg)?;
    Ok(Some(splits))
}

/// Checks that what the lists name lies in `folder`.
fn all_there(folder: &Path, set: &Recognised, index: &Index) -> Result<(), Error> {
    let annotation = |entry: &Entry| match (&entry.parts, &entry.bounds) {
        (Parts::Trimap(path), _) => Some(path.clone()),
        (_, Some(Bounds::Xml { path, .. })) => Some(path.clone()),
        _ => None,
    };
    let images = index.entries.iter().map(|entry| entry.path.clone());
    let annotations = index.entries.iter().filter_map(annotation);
    let (images, annotations): (Vec<_>, Vec<_>) = (images.collect(), annotations.collect());
    for (what, names) in [("images", images), ("annotations", annotations)] {
        let missing = names.iter().filter(|name| !folder.join(name).is_file());
        let missing: Vec<String> = missing.cloned().collect();
        if !missing.is_empty() {
            return Err(Error::Layout {
                path: folder.to_owned(),
                problem: format!(
                    "{} that is not all there: {} of {} {what} that its lists name are missing: {}",
                    set.set.name(),
                    missing.len(),
                    names.len(),
                    listed(&missing)
                ),
            });
        }
    }
    Ok(())
}

fn splits(
    folder: &Path,
    spec: &str,
    set: &Recognised,
    mut index: Index,
    cfg: &DataConfig,
) -> Result<Splits, Error> {
    let name = set.set.name();
    let setting = |setting, found: &str, expected: String| Error::Setting {
        setting,
        found: found.to_owned(),
        expected,
    };
    let entries = index.entries.len();
    if cfg.crop == Crop::Box {
        let without: Vec<String> = index
            .entries
            .iter()
            .filter(|e| e.bounds.is_none())
            .map(|e| e.path.clone())
            .collect();
        if !without.is_empty() {
            let expected = format!(
                "none: {} of the {entries} images of {name} have no box ({})",
                without.len(),
                listed(&without)
            );
            return Err(setting("data.crop", "box", expected));
        }
    }
    match cfg.labels {
        Labels::Auto => {}
        Labels::None => {
            index.classes.clear();
            index
                .entries
                .iter_mut()
                .for_each(|entry| entry.label = None);
        }
        Labels::Folders => {
            let expected = format!(
                "auto or none for {name}; data.layout=folders takes it for folders of photos"
            );
            return Err(setting("data.labels", "folders", expected));
        }
    }
    let mut remarks = vec![name.to_owned()];
    remarks.append(&mut index.remarks);
    let has_val = index.entries.iter().any(|entry| entry.split == Split::Val);
    remarks.push(match has_val {
        true => "official splits".to_owned(),
        false => "official split, val held out of its training images".to_owned(),
    });
    if cfg.crop == Crop::Box {
        remarks.push("cropped to the boxes".to_owned());
    }
    let shared = Arc::new(Shared {
        name: shown(spec).into_owned(),
        folder: folder.to_owned(),
        classes: index
            .classes
            .iter()
            .map(|class| class_name(class).into_owned())
            .collect(),
        max_pixels: cfg.max_pixels,
        crop: (cfg.crop == Crop::Box).then_some(cfg.crop_margin),
        banner: index.banner,
        has_parts: index
            .entries
            .iter()
            .any(|entry| !matches!(entry.parts, Parts::None)),
    });
    let mut parts: BTreeMap<&str, Vec<(Photo, Entry)>> = BTreeMap::new();
    for entry in index.entries {
        let id = match set.inside {
            "" => entry.path.clone(),
            inside => format!("{inside}/{}", entry.path),
        };
        let photo = Photo {
            id,
            path: folder.join(&entry.path),
            label: entry.label,
        };
        parts
            .entry(entry.split.name())
            .or_default()
            .push((photo, entry));
    }
    let mut part =
        |split: Split| Listed::new(&shared, parts.remove(split.name()).unwrap_or_default());
    let (mut train, mut val, test) = (part(Split::Train), part(Split::Val), part(Split::Test));
    if !has_val {
        let held_out = held_out(train.photos(), cfg.val_fraction, cfg.seed, "val");
        (train, val) = train.divided(&held_out);
    }
    let test = (!test.is_empty()).then_some(test);
    let found = Found {
        source: spec.to_owned(),
        set: Some(remarks.join(", ")),
        images: SplitCounts {
            train: train.len(),
            val: val.len(),
            test: test.as_ref().map(Listed::len),
        },
        held_out: HeldOut {
            val: !has_val,
            test: false,
        },
        classes: shared.classes.len(),
        notes: index.notes,
        ..Found::default()
    };
    Ok(Splits {
        train: Arc::new(train),
        val: Arc::new(val),
        test: test.map(|test| Arc::new(test) as Arc<dyn Dataset>),
        name: spec.to_owned(),
        found,
    })
}
