//! Augmentation of pictures that a decoder made.

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::config::unit;
use super::{Jitter, JitterStrength, Planes, grayscale, horizontal_flip};
use crate::keyed::{Stream, generator, happens};
use crate::{Error, Normalisation};

/// How strongly each picture of a generated pair is changed.
///
/// # Design choice
/// Both pictures decode the same view, so crop, colour and pose are shared and a contrastive loss
/// could be solved by the mean colour alone; each gets its own jitter, greys and flip. No crop: the
/// decoder's pictures are small and blurred already.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct PairAugmentConfig {
    /// Probability of colour jitter.
    pub jitter: f64,
    /// How far colour jitter may go.
    pub jitter_strength: JitterStrength,
    /// Probability of leaving colour out.
    pub grayscale: f64,
    /// Probability of exchanging left and right.
    pub flip: f64,
}

impl Default for PairAugmentConfig {
    fn default() -> Self {
        Self {
            jitter: 0.8,
            jitter_strength: JitterStrength::default(),
            grayscale: 0.2,
            flip: 0.5,
        }
    }
}

impl PairAugmentConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// The first setting outside its range, [`Error::Setting`].
    pub fn validate(&self) -> std::result::Result<(), Error> {
        unit("pair_augment.jitter", self.jitter)?;
        unit("pair_augment.grayscale", self.grayscale)?;
        unit("pair_augment.flip", self.flip)?;
        self.jitter_strength.validate()
    }
}

/// `images` (N, 3, H, W), normalised, each with its own jitter, greys and flip, and normalised
/// again. Pixel values are cut off to [0, 1] in between, as a photo's would be. The result has the
/// dtype and device of `images` and carries no gradient.
///
/// Randomness depends on (`seed`, `step`, the image's entry in `indices`, `view`) alone, so that
/// neither the place in the batch nor threads matter; `view` tells the pictures of a pair apart.
///
/// # Errors
/// A shape other than (N, 3, H, W), or `indices` of another length than N.
pub fn pair_augment(
    images: &Tensor,
    cfg: &PairAugmentConfig,
    norm: &Normalisation,
    seed: u64,
    step: u64,
    view: u64,
    indices: &[u32],
) -> Result<Tensor> {
    let (n, c, height, width) = images.dims4()?;
    if c != 3 {
        bail!(
            "pair_augment: images are {:?}, expected [N, 3, H, W]",
            images.dims()
        );
    }
    if indices.len() != n {
        bail!(
            "pair_augment: {} indices, expected {n}, one an image",
            indices.len()
        );
    }
    let values = images
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let mut pictures: Vec<Planes> = values
        .chunks_exact((3 * height * width).max(1))
        .map(|values| Planes {
            height,
            width,
            values: values.to_vec(),
        })
        .collect();
    pictures
        .par_iter_mut()
        .zip(indices)
        .for_each(|(planes, &index)| {
            norm.undo_on_planes(planes);
            planes.values.iter_mut().for_each(|v| *v = v.clamp(0., 1.));
            let words = [seed, step, u64::from(index), view];
            let mut rng = generator(words, Stream::PairJitter);
            if happens(&mut rng, cfg.jitter) {
                Jitter::draw(&cfg.jitter_strength, &mut rng).apply(planes);
            }
            if happens(&mut generator(words, Stream::PairGrayscale), cfg.grayscale) {
                grayscale(planes);
            }
            if happens(&mut generator(words, Stream::PairFlip), cfg.flip) {
                horizontal_flip(planes);
            }
            norm.apply_to_planes(planes);
        });
    let values: Vec<f32> = pictures.into_iter().flat_map(|p| p.values).collect();
    Tensor::from_vec(values, (n, 3, height, width), &Device::Cpu)?
        .to_dtype(images.dtype())?
        .to_device(images.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(n: usize) -> Tensor {
        let values: Vec<f32> = (0..n * 3 * 6 * 5)
            .map(|i| (i * i % 17) as f32 / 8. - 1.)
            .collect();
        Tensor::from_vec(values, (n, 3, 6, 5), &Device::Cpu).unwrap()
    }

    fn values(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn an_image_is_changed_alike_wherever_it_stands_in_the_batch() {
        let (cfg, norm) = (PairAugmentConfig::default(), Normalisation::imagenet());
        let images = images(4);
        let all = pair_augment(&images, &cfg, &norm, 1, 2, 0, &[10, 11, 12, 13]).unwrap();
        let last = images.narrow(0, 3, 1).unwrap();
        let alone = pair_augment(&last, &cfg, &norm, 1, 2, 0, &[13]).unwrap();
        assert_eq!(values(&all.narrow(0, 3, 1).unwrap()), values(&alone));
        let other = pair_augment(&images, &cfg, &norm, 1, 2, 1, &[10, 11, 12, 13]).unwrap();
        assert_ne!(values(&all), values(&other), "the two views differ");
    }

    #[test]
    fn without_transforms_pictures_are_only_cut_off_to_their_range() {
        let cfg = PairAugmentConfig {
            jitter: 0.,
            grayscale: 0.,
            flip: 0.,
            ..PairAugmentConfig::default()
        };
        let norm = Normalisation::imagenet();
        let images = images(2);
        let found = pair_augment(&images, &cfg, &norm, 1, 2, 0, &[0, 1]).unwrap();
        let unit = norm.undo(&images).unwrap().clamp(0f32, 1f32).unwrap();
        let expected = norm.apply(&unit).unwrap();
        for (a, b) in values(&found).iter().zip(values(&expected)) {
            assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn wrong_shapes_are_named() {
        let (cfg, norm) = (PairAugmentConfig::default(), Normalisation::imagenet());
        let images = images(2);
        let message = pair_augment(&images, &cfg, &norm, 0, 0, 0, &[1])
            .unwrap_err()
            .to_string();
        assert!(message.contains("1 indices, expected 2"), "{message}");
        let two = images.narrow(1, 0, 2).unwrap();
        let message = pair_augment(&two, &cfg, &norm, 0, 0, 0, &[1, 2])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("[2, 2, 6, 5], expected [N, 3, H, W]"),
            "{message}"
        );
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let cfg = PairAugmentConfig {
            flip: -0.5,
            ..PairAugmentConfig::default()
        };
        assert!(
            cfg.validate()
                .unwrap_err()
                .to_string()
                .contains("pair_augment.flip is -0.5")
        );
        PairAugmentConfig::default().validate().unwrap();
    }
}
