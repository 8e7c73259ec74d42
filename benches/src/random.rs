//! Inputs of mean 0 and variance 1, the same in every run.

use candle_core::{Device, Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `len` values, uniform between -√3 and √3.
pub(crate) fn values(len: usize, stream: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(stream);
    let width = 2. * 3f32.sqrt();
    let mut next = || ((rng.next_u32() >> 8) as f32 / (1 << 24) as f32 - 0.5) * width;
    (0..len).map(|_| next()).collect()
}

/// Images (N, 3, side, side).
pub(crate) fn images(n: usize, side: usize, stream: u64) -> Result<Tensor> {
    let values = values(n * 3 * side * side, stream);
    Tensor::from_vec(values, (n, 3, side, side), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_mean_0_and_variance_1_and_repeat() {
        let values = values(100_000, 1);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.).abs() < 0.02);
        assert_eq!(values[..9], super::values(9, 1));
        assert_ne!(values[..9], super::values(9, 2));
    }
}
