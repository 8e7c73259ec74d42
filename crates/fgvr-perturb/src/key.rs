//! Chance that depends on (seed, step, image) and on nothing else.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What, besides an image's index in its data set, decides every random draw of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RandomKey {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step.
    pub step: u64,
}

/// What a draw is for: equal keys with different purposes give unrelated streams.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    RandomMask = 1,
    Gaussian = 2,
    Swap = 3,
    #[cfg(feature = "candle")]
    RandomBasis = 4,
}

impl RandomKey {
    pub(crate) fn rng(self, image: u32, purpose: Purpose) -> ChaCha8Rng {
        let mut seed = [0; 32];
        let words = [self.seed, self.step, u64::from(image), purpose as u64];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(seed)
    }

    /// A number that orders channels of equal value, unrelated to their index.
    /// `image` is `None` for what all images share.
    pub(crate) fn tie(self, image: Option<u32>, channel: usize) -> u64 {
        // No image has this index, since indices are u32.
        let image = image.map_or(u64::MAX, u64::from);
        [self.step, image, channel as u64]
            .into_iter()
            .fold(mix(self.seed), |hash, word| mix(hash ^ word))
    }
}

/// The output function of SplitMix64 (Steele, Lea and Flood 2014): a bijection that spreads each bit.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
