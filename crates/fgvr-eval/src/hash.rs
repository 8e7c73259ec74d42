//! Orders and streams that depend on a seed and an index alone.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A number unrelated to `index`; the output function of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) fn hash(seed: u64, index: usize) -> u64 {
    let mix = |word: u64| {
        let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    mix(mix(seed) ^ index as u64)
}

/// A generator keyed by four numbers.
pub(crate) fn rng(key: [u64; 4]) -> ChaCha8Rng {
    let mut seed = [0; 32];
    for (bytes, word) in seed.chunks_exact_mut(8).zip(key) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(seed)
}
