//! Keyed random draws.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of draws that depends on its key alone.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    pub(super) fn new(key: [u64; 4]) -> Self {
        let mut seed = [0; 32];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(key) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(seed))
    }

    pub(super) fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f32 {
        // 24 bits, all an f32 can hold
        (self.word() >> 8) as f32 / (1 << 24) as f32
    }

    /// Uniform in [low, high).
    pub(super) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in [-amplitude, amplitude).
    pub(super) fn around(&mut self, amplitude: f32) -> f32 {
        self.range(-amplitude, amplitude)
    }

    pub(super) fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Uniform in 0..n.
    pub(super) fn below(&mut self, n: usize) -> usize {
        // the bias of at most n / 2^32 is of no matter here
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }
}
