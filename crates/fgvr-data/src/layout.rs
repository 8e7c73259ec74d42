//! Which folders are splits, and which are classes.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Error;
use crate::folder::{Photo, Scan, few};
use crate::found::{Found, counted, listed};

/// A part of a data set that a folder may be named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    /// The part that a folder's name stands for, in either case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Self::Train),
            "val" | "valid" | "validation" | "dev" => Some(Self::Val),
            "test" | "testing" => Some(Self::Test),
            _ => None,
        }
    }
}

/// The photos of a folder as they are laid out.
#[derive(Debug)]
pub(crate) enum Layout {
    /// In one piece.
    Whole(Vec<Photo>),
    /// In folders that are splits: what is trained, validated and tested on.
    Split([Vec<Photo>; 3]),
}

/// A first folder of some photos.
struct Entry<'a> {
    name: &'a str,
    part: Option<Part>,
    photos: usize,
    /// Photos that lie in it, not deeper.
    direct: usize,
}

impl Entry<'_> {
    /// Whether photos lie in folders in it, but for a few.
    fn holds_folders(&self) -> bool {
        self.photos > self.direct && few(self.direct, self.photos - self.direct)
    }
}

/// Sorts the photos of `root` into its splits, where it has some.
///
/// Folders are splits where every one that holds pictures is called by the name of a split and one of
/// them holds what is trained on: a class `train` beside a class `bus` is a class. Where the folder to
/// train on holds folders and another split stands beside it, they are splits even so, and what else
/// there is is left out.
///
/// # Errors
/// [`Error::Layout`] for a split to test on without one to train on.
pub(crate) fn layout(root: &Path, scan: Scan, found: &mut Found) -> Result<Layout, Error> {
    let entries = entries(&scan);
    let of = |part: Part| entries.iter().filter(move |entry| entry.part == Some(part));
    let others = || entries.iter().filter(|entry| entry.part.is_none());
    let in_splits: usize = entries
        .iter()
        .filter(|e| e.part.is_some())
        .map(|e| e.photos)
        .sum();
    let loose = scan.photos.iter().filter(|photo| !photo.id.contains('/'));
    let few_loose = few(loose.count(), in_splits);
    let trains = of(Part::Train).any(|entry| entry.photos > 0);
    let beside = of(Part::Val).chain(of(Part::Test)).next().is_some();
    let are_splits = if others().next().is_none() {
        trains
    } else {
        trains && beside && of(Part::Train).all(Entry::holds_folders)
    };
    if !(are_splits && few_loose) {
        let tests = of(Part::Test).next().is_some();
        if tests && !trains && few_loose && others().next().is_none() {
            let unused = found.unused();
            let problem = "has a folder test/ but no train/ with images; add one, or name the folder test/ itself";
            return Err(Error::Layout {
                path: root.to_owned(),
                problem: match unused.as_str() {
                    "" => problem.to_owned(),
                    unused => format!("{problem}; {unused}"),
                },
            });
        }
        return Ok(Layout::Whole(scan.photos));
    }
    let unused: usize = others().map(|entry| entry.photos).sum();
    if unused > 0 {
        let names: Vec<String> = others().map(|entry| entry.name.to_owned()).collect();
        let (images, names) = (counted(unused, "image", "images"), listed(&names));
        found
            .notes
            .push(format!("left out: {images} in {names}, beside the splits"));
    }
    for part in [Part::Train, Part::Val, Part::Test] {
        let same: Vec<String> = of(part).map(|entry| entry.name.to_owned()).collect();
        if same.len() > 1 {
            found
                .notes
                .push(format!("taken for one split: {}", listed(&same)));
        }
    }
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for photo in scan.photos {
        match photo
            .id
            .split_once('/')
            .map(|(first, _)| Part::named(first))
        {
            Some(Some(part)) => parts[part as usize].push(photo),
            // Told above.
            Some(None) => {}
            None => found.left_out.push(photo.id),
        }
    }
    Ok(Layout::Split(parts))
}

/// The first folders of what was found.
fn entries(scan: &Scan) -> Vec<Entry<'_>> {
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for photo in &scan.photos {
        if let Some((first, rest)) = photo.id.split_once('/') {
            let [photos, direct] = counts.entry(first).or_default();
            *photos += 1;
            *direct += usize::from(!rest.contains('/'));
        }
    }
    // A class whose pictures cannot be decoded is a class nevertheless.
    for first in &scan.other_pictures {
        counts.entry(first).or_default();
    }
    counts
        .into_iter()
        .map(|(name, [photos, direct])| Entry {
            name,
            part: Part::named(name),
            photos,
            direct,
        })
        .collect()
}
