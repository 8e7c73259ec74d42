//! Images to judge by that look like images that were learned from, noticed while they are loaded for something else.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::{NEAR, PerceptualHash};
use crate::{BoundingBox, Dataset, Error, Image, PartMask, Splits};

/// A data set whose images are hashed when they are first loaded.
struct Watched {
    set: Arc<dyn Dataset>,
    /// The bits of each hash; 0 for an image that was not loaded.
    hashes: Vec<AtomicU64>,
}

impl Watched {
    fn new(set: &Arc<dyn Dataset>) -> Arc<Self> {
        Arc::new(Self {
            set: Arc::clone(set),
            hashes: (0..set.len()).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// The hashes that are known, by the index of their image.
    fn known(&self) -> Vec<(usize, PerceptualHash)> {
        let hashes = self.hashes.iter().enumerate();
        hashes
            .filter_map(|(index, bits)| {
                Some((
                    index,
                    PerceptualHash::from_bits(bits.load(Ordering::Relaxed))?,
                ))
            })
            .collect()
    }
}

/// The splits of a data set under watch.
pub struct Leaks {
    train: Arc<Watched>,
    val: Arc<Watched>,
    test: Option<Arc<Watched>>,
}

/// Images to judge by that look like training images.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Leak {
    /// How many there are.
    pub images: usize,
    /// Of how many that were looked at.
    pub of: usize,
    /// The first of them, by its id.
    pub first: String,
    /// The training image that it is nearest to, by its id.
    pub like: String,
}

/// The same splits, whose images are hashed when they are first loaded, and what then tells which look alike. Hashing costs
/// a small part of decoding.
#[must_use]
pub fn watch(splits: &Splits) -> (Splits, Leaks) {
    let leaks = Leaks {
        train: Watched::new(&splits.train),
        val: Watched::new(&splits.val),
        test: splits.test.as_ref().map(Watched::new),
    };
    let watched = Splits {
        train: leaks.train.clone(),
        val: leaks.val.clone(),
        test: leaks.test.clone().map(|test| test as Arc<dyn Dataset>),
        ..splits.clone()
    };
    (watched, leaks)
}

impl Leaks {
    /// The loaded test images whose hash differs in at most [`NEAR`] bits from that of a loaded training image; `None` where
    /// there are none.
    #[must_use]
    pub fn of_test(&self) -> Option<Leak> {
        self.of(self.test.as_deref()?)
    }

    /// The same of validation images.
    #[must_use]
    pub fn of_val(&self) -> Option<Leak> {
        self.of(&self.val)
    }

    fn of(&self, judged: &Watched) -> Option<Leak> {
        let (train, judged_hashes) = (self.train.known(), judged.known());
        let nearest = |hash: PerceptualHash| {
            let near = train
                .iter()
                .map(|(index, other)| (hash.distance(*other), *index));
            near.filter(|(distance, _)| *distance <= NEAR).min()
        };
        let found: Vec<(usize, usize)> = judged_hashes
            .par_iter()
            .filter_map(|(index, hash)| Some((*index, nearest(*hash)?.1)))
            .collect();
        let (first, like) = *found.first()?;
        Some(Leak {
            images: found.len(),
            of: judged_hashes.len(),
            first: judged.set.id(first),
            like: self.train.set.id(like),
        })
    }
}

impl Dataset for Watched {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        let image = self.set.load(index)?;
        if let Some(bits) = self.hashes.get(index)
            && bits.load(Ordering::Relaxed) == 0
            && !image.pixels.is_empty()
            && image
                .width
                .checked_mul(image.height)
                .and_then(|n| n.checked_mul(3))
                == Some(image.pixels.len())
        {
            bits.store(PerceptualHash::of(&image).bits(), Ordering::Relaxed);
        }
        Ok(image)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.set.label(index)
    }

    fn id(&self, index: usize) -> String {
        self.set.id(index)
    }

    fn path(&self, index: usize) -> Option<&Path> {
        self.set.path(index)
    }

    fn encoded_length(&self, index: usize) -> Option<u64> {
        self.set.encoded_length(index)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, Error> {
        self.set.encoded(index)
    }

    fn classes(&self) -> &[String] {
        self.set.classes()
    }

    fn part_mask(&self, index: usize) -> Result<Option<PartMask>, Error> {
        self.set.part_mask(index)
    }

    fn knows_parts(&self) -> Result<bool, Error> {
        self.set.knows_parts()
    }

    fn bounding_box(&self, index: usize) -> Result<Option<BoundingBox>, Error> {
        self.set.bounding_box(index)
    }
}
