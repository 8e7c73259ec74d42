//! Which photos are held out, decided by their names.

use std::collections::BTreeMap;

use crate::folder::Photo;
use crate::keyed::hash;

/// A class with fewer photos than this may go without a held-out one.
const ENOUGH: usize = 3;

/// For each of `photos` whether it is held out: about `fraction` of every class (of all, where
/// there are no classes), at least one of a class of three or more, and never a whole class. Those
/// with the lowest hash of (`seed`, `salt`, id) are taken, so that neither the order of the photos
/// nor threads nor the machine matter.
pub(crate) fn held_out(photos: &[Photo], fraction: f64, seed: u64, salt: &str) -> Vec<bool> {
    let mut classes: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
    for (i, photo) in photos.iter().enumerate() {
        classes.entry(photo.label).or_default().push(i);
    }
    let mut out = vec![false; photos.len()];
    if fraction <= 0. {
        return out;
    }
    for mut members in classes.into_values() {
        members.sort_by_key(|&i| (hash(seed, &format!("{salt}:{}", photos[i].id)), i));
        let least = usize::from(members.len() >= ENOUGH);
        let count = (fraction * members.len() as f64).round() as usize;
        let count = count.max(least).min(members.len() - 1);
        members[..count].iter().for_each(|&i| out[i] = true);
    }
    out
}
