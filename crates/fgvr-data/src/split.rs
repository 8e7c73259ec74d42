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
    let images = photos.iter().map(|photo| (photo.label, photo.id.as_str()));
    held_out_of(images, fraction, seed, salt)
}

/// The same of images by their labels and ids.
pub(crate) fn held_out_of(
    images: impl Iterator<Item = (Option<u32>, impl AsRef<str>)>,
    fraction: f64,
    seed: u64,
    salt: &str,
) -> Vec<bool> {
    let mut classes: BTreeMap<Option<u32>, Vec<(u64, usize)>> = BTreeMap::new();
    let mut count = 0;
    for (i, (label, id)) in images.enumerate() {
        let key = hash(seed, &format!("{salt}:{}", id.as_ref()));
        classes.entry(label).or_default().push((key, i));
        count += 1;
    }
    let mut out = vec![false; count];
    if fraction <= 0. {
        return out;
    }
    for mut members in classes.into_values() {
        members.sort_unstable();
        let least = usize::from(members.len() >= ENOUGH);
        let count = (fraction * members.len() as f64).round() as usize;
        let count = count.max(least).min(members.len() - 1);
        members[..count].iter().for_each(|&(_, i)| out[i] = true);
    }
    out
}
