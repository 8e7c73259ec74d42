//! Pairs of photos that are the same or look the same.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::PerceptualHash;
use super::look::Looked;
use crate::Split;

/// The most pairs that are listed one by one; all are counted.
pub const LISTED_PAIRS: usize = 1000;

/// Photos compared with all others at a time.
const ROWS: usize = 256;

/// Two photos that are the same or look the same, the first before the second in the order of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) distance: u32,
    pub(super) exact: bool,
    /// Whether both have a class and not the same.
    pub(super) other_class: bool,
    across: bool,
}

impl Found {
    /// The worst first: across splits, of two classes, the nearest, and then as they come.
    fn rank(&self) -> impl Ord + use<> {
        (
            !self.across,
            !self.other_class,
            !self.exact,
            self.distance,
            self.first,
            self.second,
        )
    }
}

/// Pairs of one kind between two splits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PairCounts {
    /// Pairs of the same content, byte for byte.
    pub exact: u64,
    /// Pairs of other content that look the same.
    pub near: u64,
    /// Pairs of either kind whose photos have different classes.
    pub other_class: u64,
}

/// What a search found.
pub(super) struct Pairs {
    /// By the splits of both photos.
    pub(super) counts: [[PairCounts; 3]; 3],
    /// The first of them by their rank.
    pub(super) listed: Vec<Found>,
    /// For each photo whether it forms a pair with a training photo before it.
    pub(super) as_in_training: Vec<bool>,
}

/// All pairs of `photos`, training photos first, whose hashes differ in at most `near` bits: every two are compared, on all
/// cores.
pub(super) fn pairs(photos: &[Looked], near: u32) -> Pairs {
    let as_in_training: Vec<AtomicBool> = photos.iter().map(|_| AtomicBool::new(false)).collect();
    // Apart from the rest, so that the inner loop reads eight bytes a photo.
    let hashes: Vec<PerceptualHash> = photos.iter().map(|photo| photo.hash).collect();
    let starts: Vec<usize> = (0..photos.len()).step_by(ROWS).collect();
    let blocks: Vec<([[PairCounts; 3]; 3], Vec<Found>)> = starts
        .par_iter()
        .map(|start| {
            let mut counts = [[PairCounts::default(); 3]; 3];
            let mut found = Vec::new();
            for first in *start..(start + ROWS).min(photos.len()) {
                let hash = hashes[first];
                for (second, other) in (first + 1..).zip(&hashes[first + 1..]) {
                    let distance = hash.distance(*other);
                    if distance > near {
                        continue;
                    }
                    let (a, b) = (&photos[first], &photos[second]);
                    let pair = Found {
                        first,
                        second,
                        distance,
                        exact: a.content == b.content,
                        other_class: a.label.zip(b.label).is_some_and(|(a, b)| a != b),
                        across: a.split != b.split,
                    };
                    let count = &mut counts[a.split as usize][b.split as usize];
                    count.exact += u64::from(pair.exact);
                    count.near += u64::from(!pair.exact);
                    count.other_class += u64::from(pair.other_class);
                    if a.split == Split::Train && pair.across {
                        as_in_training[second].store(true, Ordering::Relaxed);
                    }
                    found.push(pair);
                    // A set of white pictures has as many pairs as half the square of its size.
                    if found.len() >= 2 * LISTED_PAIRS {
                        keep_first(&mut found);
                    }
                }
            }
            keep_first(&mut found);
            (counts, found)
        })
        .collect();
    let mut counts = [[PairCounts::default(); 3]; 3];
    let mut listed = Vec::new();
    for (block, found) in blocks {
        for (total, count) in counts.iter_mut().flatten().zip(block.iter().flatten()) {
            total.exact += count.exact;
            total.near += count.near;
            total.other_class += count.other_class;
        }
        listed.extend(found);
        keep_first(&mut listed);
    }
    Pairs {
        counts,
        listed,
        as_in_training: as_in_training
            .into_iter()
            .map(AtomicBool::into_inner)
            .collect(),
    }
}

fn keep_first(found: &mut Vec<Found>) {
    found.sort_unstable_by_key(Found::rank);
    found.truncate(LISTED_PAIRS);
}
