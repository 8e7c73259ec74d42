//! Seeded permutations, and their undoing.

use candle_core::{Device, Result, Tensor, bail};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A permutation of a batch.
///
/// MoCo shuffles the keys across GPUs so that batch statistics do not tell which key belongs to which
/// query. On one device the same is had by statistics over sub-batches of a shuffled batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shuffle {
    order: Vec<u32>,
}

impl Shuffle {
    /// A permutation of `n` images, drawn from `key` alone (Fisher-Yates).
    ///
    /// # Errors
    /// More images than u32 counts.
    pub fn new(n: usize, key: [u64; 4]) -> Result<Self> {
        let Ok(count) = u32::try_from(n) else {
            bail!("shuffle: {n} images, expected fewer than 2^32");
        };
        let mut rng = keyed_rng(key);
        let mut order: Vec<u32> = (0..count).collect();
        for last in (1..n).rev() {
            // The high word of a 64x64-bit product is uniform in 0..=last up to 2^-32.
            let draw = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
            order.swap(last, draw as usize);
        }
        Ok(Self { order })
    }

    /// Which row each place gets.
    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }

    /// Row i of the result is row `order[i]` of `x`.
    ///
    /// # Errors
    /// A batch of another size.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.select(x, self.order.clone())
    }

    /// Undoes [`Shuffle::apply`].
    ///
    /// # Errors
    /// A batch of another size.
    pub fn undo(&self, x: &Tensor) -> Result<Tensor> {
        self.select(x, self.inverse())
    }

    /// Which row each place gets when it is undone.
    pub(crate) fn inverse(&self) -> Vec<u32> {
        let mut inverse = vec![0; self.order.len()];
        for (to, from) in (0u32..).zip(&self.order) {
            inverse[*from as usize] = to;
        }
        inverse
    }

    fn select(&self, x: &Tensor, rows: Vec<u32>) -> Result<Tensor> {
        if x.dim(0)? != rows.len() {
            bail!(
                "shuffle: {:?} has not the {} rows expected",
                x.dims(),
                rows.len()
            );
        }
        let len = rows.len();
        x.index_select(
            &Tensor::from_vec(rows, len, &Device::Cpu)?.to_device(x.device())?,
            0,
        )
    }
}

/// A generator keyed by four words.
pub(crate) fn keyed_rng(words: [u64; 4]) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoing_gives_the_batch_back_exactly_and_keys_differ() {
        let x = Tensor::arange(0f32, 34., &Device::Cpu)
            .unwrap()
            .reshape((17, 2))
            .unwrap();
        let values = |t: &Tensor| t.to_vec2::<f32>().unwrap();
        let shuffle = Shuffle::new(17, [1, 2, 0, 0]).unwrap();
        let shuffled = shuffle.apply(&x).unwrap();
        assert_ne!(values(&shuffled), values(&x));
        assert_eq!(values(&shuffle.undo(&shuffled).unwrap()), values(&x));
        assert_eq!(shuffle, Shuffle::new(17, [1, 2, 0, 0]).unwrap());
        assert_ne!(shuffle, Shuffle::new(17, [1, 3, 0, 0]).unwrap());
        let mut order = shuffle.order.clone();
        order.sort_unstable();
        assert_eq!(order, (0..17).collect::<Vec<_>>());
    }

    #[test]
    fn another_batch_size_is_an_error() {
        let x = Tensor::arange(0f32, 6., &Device::Cpu)
            .unwrap()
            .reshape((3, 2))
            .unwrap();
        assert!(Shuffle::new(4, [0; 4]).unwrap().apply(&x).is_err());
    }
}
