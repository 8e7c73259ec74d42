//! Seeded random values.

use candle_core::{Device, Shape, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A generator keyed by `seed`.
#[must_use]
pub fn rng(seed: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// `count` values of the standard normal distribution.
#[must_use]
pub fn normal_values(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = rng(seed);
    let mut draw = || -> f64 { StandardNormal.sample(&mut rng) };
    (0..count).map(|_| draw() as f32).collect()
}

/// `count` values uniform in `low..high`.
#[must_use]
pub fn uniform_values(seed: u64, count: usize, low: f64, high: f64) -> Vec<f32> {
    let mut rng = rng(seed);
    (0..count)
        .map(|_| (low + (high - low) * rng.random::<f64>()) as f32)
        .collect()
}

/// An f32 tensor of `shape` on the CPU, standard normal.
#[must_use]
pub fn normal(seed: u64, shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let values = normal_values(seed, shape.elem_count());
    tensor(values, shape)
}

/// An f32 tensor of `shape` on the CPU, uniform in `low..high`.
#[must_use]
pub fn uniform(seed: u64, shape: impl Into<Shape>, low: f64, high: f64) -> Tensor {
    let shape = shape.into();
    let values = uniform_values(seed, shape.elem_count(), low, high);
    tensor(values, shape)
}

fn tensor(values: Vec<f32>, shape: Shape) -> Tensor {
    match Tensor::from_vec(values, shape, &Device::Cpu) {
        Ok(tensor) => tensor,
        Err(error) => unreachable!("as many values as the shape has elements: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_alone_decides() {
        assert_eq!(normal_values(1, 5), normal_values(1, 9)[..5]);
        assert_ne!(normal_values(1, 5), normal_values(2, 5));
        assert_eq!(uniform(3, (2, 3), -1., 1.).dims(), [2, 3]);
    }

    #[test]
    fn uniform_stays_inside_and_normal_has_unit_variance() {
        assert!(
            uniform_values(4, 1000, -2., 3.)
                .iter()
                .all(|v| (-2. ..3.).contains(v))
        );
        let values = normal_values(5, 10_000);
        let second = values.iter().map(|v| f64::from(v * v)).sum::<f64>() / 10_000.;
        assert!((second - 1.).abs() < 0.05, "{second}");
    }
}
