//! What a look at a data set found, for people and as JSON.

use std::collections::BTreeMap;

use super::look::{Looked, sets};
use super::pairs::{PairCounts, Pairs};
use crate::found::Found;
use crate::{Dataset, Quarantined, Split, Splits};

/// Classes named one by one among the smallest.
const SMALLEST: usize = 5;

/// What was found in a data set.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DataCheck {
    /// What was found where it was opened.
    pub data: Found,
    /// Split by split.
    pub splits: Vec<SplitCheck>,
    /// Width and height in pixels of photos that can be read, by their number of pixels; `None` without one.
    pub pixels: Option<Spread<[usize; 2]>>,
    /// Bytes of the files that can be read; `None` for a set that is drawn.
    pub bytes: Option<Spread<u64>>,
    /// Photos that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Bits in which hashes of near-duplicates differ at most.
    pub near: u32,
    /// Pairs by the splits of their photos, those with none left out.
    pub pairs: Vec<PairRow>,
    /// Pairs one by one, the worst first: across splits, of two classes, the same content, the nearest. At most
    /// [`LISTED_PAIRS`](super::LISTED_PAIRS).
    pub listed: Vec<Pair>,
    /// Test images that are the same as a training image or look the same.
    pub test_as_in_training: usize,
    /// Validation images that are the same as a training image or look the same.
    pub val_as_in_training: usize,
}

/// One split.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SplitCheck {
    /// `train`, `val` or `test`.
    pub split: &'static str,
    /// Whether it was held out of other images by a hash of their names, rather than said by the data.
    pub by_hash: bool,
    /// All its images.
    pub images: usize,
    /// Those that cannot be read.
    pub unreadable: usize,
    /// Images a class; `None` without labels.
    pub classes: Option<ClassCounts>,
}

/// How many images the classes of a split have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ClassCounts {
    /// All classes of the set, also those without an image in this split.
    pub classes: usize,
    /// Images of the smallest, the middle and the largest class.
    pub images: Spread<usize>,
    /// The smallest classes and their images.
    pub smallest: Vec<(String, usize)>,
}

/// The least, the middle and the greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Spread<T> {
    /// The least.
    pub min: T,
    /// The middle one, of an even number the lower.
    pub median: T,
    /// The greatest.
    pub max: T,
}

/// A photo that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Unreadable {
    /// Its id.
    pub id: String,
    /// Its split.
    pub split: &'static str,
    /// Why.
    pub reason: String,
}

/// Pairs between two splits, or inside of one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PairRow {
    /// The splits of both photos.
    pub splits: [&'static str; 2],
    /// How many.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub counts: PairCounts,
}

/// Two photos that are the same or look the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Pair {
    /// Both.
    pub photos: [Photo; 2],
    /// Whether their contents are the same, byte for byte.
    pub exact: bool,
    /// Bits in which their perceptual hashes differ.
    pub distance: u32,
    /// Whether they have different classes.
    pub other_class: bool,
}

/// A photo of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Photo {
    /// Its id.
    pub id: String,
    /// Its split.
    pub split: &'static str,
    /// The name of its class.
    pub class: Option<String>,
    /// Its number in its split.
    pub index: usize,
}

impl<T: Copy> Spread<T> {
    /// Of values sorted by `key`; `None` without any.
    pub(super) fn of<K: Ord>(mut values: Vec<T>, key: impl Fn(&T) -> K) -> Option<Self> {
        values.sort_by_key(key);
        Some(Self {
            min: *values.first()?,
            median: *values.get((values.len() - 1) / 2)?,
            max: *values.last()?,
        })
    }
}

pub(super) fn report(
    splits: &Splits,
    near: u32,
    photos: &[Looked],
    unreadable: Vec<(Split, Quarantined)>,
    pairs: &Pairs,
) -> DataCheck {
    let sets = sets(splits);
    let held_out = splits.found.held_out;
    let of_split = sets.iter().map(|(split, set)| SplitCheck {
        split: split.name(),
        by_hash: match split {
            Split::Train => false,
            Split::Val => held_out.val,
            Split::Test => held_out.test,
        },
        images: set.len(),
        unreadable: unreadable.iter().filter(|(of, _)| of == split).count(),
        classes: classes(*set),
    });
    let photo = |number: usize| {
        let Looked { split, index, .. } = photos[number];
        let set = sets
            .iter()
            .find(|(of, _)| *of == split)
            .map(|(_, set)| *set);
        let class = set.and_then(|set| set.classes().get(set.label(index)? as usize).cloned());
        Photo {
            id: set.map_or_else(String::new, |set| set.id(index)),
            split: split.name(),
            class,
            index,
        }
    };
    let listed = pairs.listed.iter().map(|pair| Pair {
        photos: [photo(pair.first), photo(pair.second)],
        exact: pair.exact,
        distance: pair.distance,
        other_class: pair.other_class,
    });
    let names = [Split::Train, Split::Val, Split::Test];
    let mut rows = Vec::new();
    for (first, counts) in names.iter().zip(&pairs.counts) {
        for (second, counts) in names.iter().zip(counts) {
            if counts.exact + counts.near > 0 {
                rows.push(PairRow {
                    splits: [first.name(), second.name()],
                    counts: *counts,
                });
            }
        }
    }
    let seen = |split: Split| {
        let photos = photos.iter().zip(&pairs.as_in_training);
        photos
            .filter(|(photo, seen)| photo.split == split && **seen)
            .count()
    };
    let sides = photos.iter().map(|photo| [photo.width, photo.height]);
    DataCheck {
        splits: of_split.collect(),
        pixels: Spread::of(sides.collect(), |[width, height]| width * height),
        bytes: Spread::of(
            photos.iter().filter_map(|photo| photo.bytes).collect(),
            |b| *b,
        ),
        near,
        pairs: rows,
        listed: listed.collect(),
        test_as_in_training: seen(Split::Test),
        val_as_in_training: seen(Split::Val),
        unreadable: unreadable
            .into_iter()
            .map(|(split, bad)| Unreadable {
                id: bad.path,
                split: split.name(),
                reason: bad.reason,
            })
            .collect(),
        data: splits.found.clone(),
    }
}

/// Images a class of `set`.
fn classes(set: &dyn Dataset) -> Option<ClassCounts> {
    let mut counts: BTreeMap<u32, usize> =
        (0..).take(set.classes().len()).map(|c| (c, 0)).collect();
    for label in (0..set.len()).filter_map(|index| set.label(index)) {
        *counts.entry(label).or_default() += 1;
    }
    let mut by_size: Vec<(usize, u32)> = counts.iter().map(|(class, n)| (*n, *class)).collect();
    by_size.sort_unstable();
    let smallest = by_size.iter().take(SMALLEST);
    let name = |class: u32| {
        set.classes()
            .get(class as usize)
            .cloned()
            .unwrap_or_default()
    };
    Some(ClassCounts {
        classes: counts.len(),
        images: Spread::of(counts.values().copied().collect(), |n| *n)?,
        smallest: smallest.map(|(n, class)| (name(*class), *n)).collect(),
    })
}
