//! The classifier: a row for each image of the training set.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::Init;
use fgvr_nn::Parameters;
use rand::Rng;

use crate::bases::Renumber;
use crate::l2_normalise;
use crate::step::shuffle::keyed_rng;

/// The classifier's variable.
pub(super) const CLASSES: &str = "classes.weight";

/// Sets these draws apart from others of the same seed.
const ROW: u64 = 0x6469_6574_0000;

/// W (M, C), without a bias.
pub(super) struct Classes {
    weight: Tensor,
}

impl Classes {
    /// M = `images` rows of C = `width`, over a variable in `parameters`.
    pub(super) fn new(
        images: usize,
        width: usize,
        seed: u64,
        parameters: &Parameters,
    ) -> Result<Self> {
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let weight = vb.get_with_hints((images, width), CLASSES, Init::Const(0.))?;
        let drawn = (0..images as u64).flat_map(|image| row(seed, image, width));
        let drawn = Tensor::from_vec(drawn.collect(), (images, width), &Device::Cpu)?;
        parameters.set_all(&HashMap::from([(CLASSES.to_owned(), drawn)]))?;
        Ok(Self { weight })
    }

    /// Features (N, C) -> their similarity to each class (N, M).
    pub(super) fn similarity(&self, pooled: &Tensor, is_cosine: bool) -> Result<Tensor> {
        let (pooled, weight) = match is_cosine {
            true => (l2_normalise(pooled)?, l2_normalise(&self.weight)?),
            false => (pooled.clone(), self.weight.clone()),
        };
        pooled.matmul(&weight.t()?) // (N, C) x (C, M) -> (N, M)
    }
}

/// The row that an image begins with: uniform within ±1/√C, as PyTorch's linear layer, by (seed, image).
fn row(seed: u64, image: u64, width: usize) -> Vec<f32> {
    let mut rng = keyed_rng([seed, ROW, image, 0]);
    let bound = 1. / (width as f64).sqrt();
    let value = |draw: u32| ((f64::from(draw) / 2f64.powi(31) - 1.) * bound) as f32;
    (0..width).map(|_| value(rng.next_u32())).collect()
}

/// `weight` (M, C) for a set of `images` in which images have other numbers, and how many rows were kept. Rows of images
/// that are new begin as at the start of a run.
pub(super) fn renumbered(
    weight: &Tensor,
    images: usize,
    seed: u64,
    number: &Renumber<'_>,
) -> Result<(Tensor, usize)> {
    let (_, width) = weight.dims2()?;
    let old = weight.to_dtype(DType::F32)?.flatten_all()?;
    let old = old.to_vec1::<f32>()?;
    let drawn = (0..images as u64).flat_map(|image| row(seed, image, width));
    let mut new: Vec<f32> = drawn.collect();
    let mut kept = 0;
    for (before, values) in (0u32..).zip(old.chunks_exact(width)) {
        let now = number(before).map(|now| now as usize);
        if let Some(now) = now.filter(|now| *now < images) {
            new[now * width..][..width].copy_from_slice(values);
            kept += 1;
        }
    }
    let new = Tensor::from_vec(new, (images, width), &Device::Cpu)?;
    Ok((new, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_a_linear_layer_and_keyed_by_seed_and_image() {
        let parameters = Parameters::new(3);
        let classes = Classes::new(40, 25, 7, &parameters).unwrap();
        let rows = classes.weight.to_vec2::<f32>().unwrap();
        let values: Vec<f64> = rows.iter().flatten().map(|v| f64::from(*v)).collect();
        assert!(values.iter().all(|v| v.abs() <= 0.2));
        let square = values.iter().map(|v| v * v).sum::<f64>() / 1000.;
        assert!((square - 0.04 / 3.).abs() < 2e-3, "{square}");
        assert_eq!(rows[5], row(7, 5, 25));
        assert_ne!(rows[5], row(8, 5, 25));
        assert_ne!(rows[5], rows[6]);
    }

    #[test]
    fn rows_go_with_their_images_and_new_ones_are_drawn() {
        let weight = Tensor::arange(0f32, 8., &Device::Cpu).unwrap();
        let weight = weight.reshape((4, 2)).unwrap();
        // 1 is gone, the others move up by one; 0 and 2 of the new set were not there.
        let number = |image: u32| (image != 1).then_some(image + 1);
        let (new, kept) = renumbered(&weight, 5, 9, &number).unwrap();
        let new = new.to_vec2::<f32>().unwrap();
        assert_eq!(kept, 3);
        assert_eq!(
            new,
            [
                row(9, 0, 2),
                vec![0., 1.],
                row(9, 2, 2),
                vec![4., 5.],
                vec![6., 7.]
            ]
        );
    }
}
