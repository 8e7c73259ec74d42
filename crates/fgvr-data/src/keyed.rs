//! Random numbers that depend on a key alone: never on the order of calls or on threads.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a generator is for. Each use has its own stream, so that changing how much one of them
/// draws changes no other.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Stream {
    Crop,
    Flip,
    Jitter,
    Grayscale,
    Blur,
    Solarise,
    Shuffle,
    PairJitter,
    PairGrayscale,
    PairFlip,
    Companion,
}

/// The generator of (`words`, `stream`).
pub(crate) fn generator(words: [u64; 4], stream: Stream) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream as u64);
    rng
}

/// Uniform in `[low, high)`; `low` when the range is empty.
pub(crate) fn uniform(rng: &mut ChaCha8Rng, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// Uniform in `0..count`, by the high half of a product; 0 when `count` is 0.
pub(crate) fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    ((u128::from(rng.next_u64()) * count as u128) >> 64) as usize
}

/// True with the given probability.
pub(crate) fn happens(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

/// Puts `items` into a uniformly drawn order (Fisher and Yates).
pub(crate) fn shuffle<T>(rng: &mut ChaCha8Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let chosen = below(rng, last + 1);
        items.swap(last, chosen);
    }
}

/// A 64-bit hash of `text` and `seed` whose value no release of Rust changes: FNV-1a, then the
/// finaliser of SplitMix64, since the high bits of FNV-1a hardly depend on the last letters.
pub(crate) fn hash(seed: u64, text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ mix(seed);
    let fnv = text.bytes().fold(start, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_key_differ_and_repeat() {
        let first = |stream| generator([1, 2, 3, 4], stream).next_u64();
        assert_eq!(first(Stream::Crop), first(Stream::Crop));
        assert_ne!(first(Stream::Crop), first(Stream::Flip));
    }

    #[test]
    fn below_stays_below_and_reaches_every_value() {
        let mut rng = generator([0; 4], Stream::Shuffle);
        let mut seen = [0; 5];
        for _ in 0..500 {
            seen[below(&mut rng, 5)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 60), "{seen:?}");
        assert_eq!(below(&mut rng, 0), 0);
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<usize> = (0..100).collect();
        shuffle(&mut generator([9; 4], Stream::Shuffle), &mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn hash_depends_on_every_letter_and_the_seed() {
        assert_eq!(hash(0, "a/1.jpg"), hash(0, "a/1.jpg"));
        assert_ne!(hash(0, "a/1.jpg") >> 32, hash(0, "a/2.jpg") >> 32);
        assert_ne!(hash(0, "a/1.jpg"), hash(1, "a/1.jpg"));
    }
}
