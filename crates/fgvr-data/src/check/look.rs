//! What is known of each photo after one look at it.

use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::PerceptualHash;
use crate::{Dataset, Error, Image, Quarantined, Split, Splits, decode_bytes, load_whole};

/// Photos between two words about progress.
const AT_ONCE: usize = 64;

/// A photo that could be decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    pub(super) split: Split,
    /// Its number in its split.
    pub(super) index: usize,
    pub(super) label: Option<u32>,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Bytes of the file; `None` for a picture that is drawn.
    pub(super) bytes: Option<u64>,
    /// SHA-256 of the content: the file's, or the pixels' of a picture that is drawn.
    pub(super) content: [u8; 32],
    pub(super) hash: PerceptualHash,
}

/// The sets of `splits` that hold images.
pub(super) fn sets(splits: &Splits) -> Vec<(Split, &dyn Dataset)> {
    let mut sets = vec![
        (Split::Train, splits.train.as_ref()),
        (Split::Val, splits.val.as_ref()),
    ];
    sets.extend(splits.test.as_deref().map(|test| (Split::Test, test)));
    sets.retain(|(_, set)| !set.is_empty());
    sets
}

/// Decodes every photo on all cores: what was found of those that can be read, in order, and the others.
pub(super) fn look(
    splits: &Splits,
    max_pixels: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> (Vec<Looked>, Vec<(Split, Quarantined)>) {
    let sets = sets(splits);
    let all: Vec<(Split, &dyn Dataset, usize)> = sets
        .iter()
        .flat_map(|(split, set)| (0..set.len()).map(move |index| (*split, *set, index)))
        .collect();
    let (mut looked, mut unreadable) = (Vec::with_capacity(all.len()), Vec::new());
    let mut done = 0;
    for some in all.chunks(AT_ONCE) {
        let found = some.par_iter().map(|(split, set, index)| {
            one(*split, *set, *index, max_pixels).map_err(|error| {
                let bad = Quarantined {
                    index: *index,
                    path: set.id(*index),
                    reason: error.to_string(),
                };
                (*split, bad)
            })
        });
        for found in found.collect::<Vec<_>>() {
            match found {
                Ok(one) => looked.push(one),
                Err(bad) => unreadable.push(bad),
            }
        }
        done += some.len();
        progress(done, all.len());
    }
    (looked, unreadable)
}

fn one(split: Split, set: &dyn Dataset, index: usize, max_pixels: u64) -> Result<Looked, Error> {
    let (image, content, bytes): (Image, _, _) = match set.encoded(index)? {
        Some(bytes) => {
            let content = Sha256::digest(&bytes).into();
            let image = decode_bytes(&bytes, Path::new(&set.id(index)), max_pixels)?;
            (image, content, Some(bytes.len() as u64))
        }
        None => {
            let image = load_whole(set, index)?;
            let content = Sha256::digest(&image.pixels).into();
            (image, content, None)
        }
    };
    Ok(Looked {
        split,
        index,
        label: set.label(index),
        width: image.width,
        height: image.height,
        bytes,
        content,
        hash: PerceptualHash::of(&image),
    })
}
