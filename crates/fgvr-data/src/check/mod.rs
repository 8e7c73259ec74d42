//! What is in a data set: counts, sizes, photos that cannot be read, and photos that are the same or look the same.

mod leaks;
mod look;
mod pairs;
mod perceptual;
mod report;

pub use leaks::{Leak, Leaks, watch};
pub use pairs::{LISTED_PAIRS, PairCounts};
pub use perceptual::PerceptualHash;
pub use report::{ClassCounts, DataCheck, Pair, PairRow, Photo, SplitCheck, Spread, Unreadable};

use crate::Splits;

/// Bits in which the perceptual hashes of two photos may differ, for them to count as near-duplicates, where nothing else is
/// said. `docs/photos.md` shows what it was chosen by.
pub const NEAR: u32 = 6;

/// Looks at every photo of `splits`: decodes it on all cores and compares it with all others by its content and by its
/// perceptual hash. Photos whose hashes differ in at most `near` bits look the same. Photos of more than `max_pixels` pixels
/// cannot be read. `progress` hears how many photos of how many are done.
pub fn check(
    splits: &Splits,
    near: u32,
    max_pixels: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> DataCheck {
    let (photos, unreadable) = look::look(splits, max_pixels, progress);
    let pairs = pairs::pairs(&photos, near);
    report::report(splits, near, &photos, unreadable, &pairs)
}

#[cfg(test)]
mod tests;
