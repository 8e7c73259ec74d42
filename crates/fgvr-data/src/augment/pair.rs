//! Augmentation of pictures that a decoder made.

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::config::unit;
use super::{Adjustment, Jitter, JitterStrength, Planes, grayscale, horizontal_flip};
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
    /// Probability of colour jitter. By default 0.8.
    pub jitter: f64,
    /// How far colour jitter may go. By default 0.4, 0.4, 0.4 and 0.1.
    pub jitter_strength: JitterStrength,
    /// Probability of leaving colour out. By default 0.2.
    pub grayscale: f64,
    /// Probability of exchanging left and right. By default 0.5.
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

/// All that is random about one picture of a generated pair. Plain numbers, so that whoever computes can
/// be given them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairDraw {
    /// The adjustments of colour in their order with their factors, if any.
    pub jitter: Option<[(Adjustment, f32); 4]>,
    /// Whether colour is left out.
    pub grayscale: bool,
    /// Whether left and right are exchanged.
    pub flip: bool,
}

impl PairDraw {
    /// Draws for one picture; `words` are seed, step, the image's index and the view.
    fn draw(cfg: &PairAugmentConfig, words: [u64; 4]) -> Self {
        let mut rng = generator(words, Stream::PairJitter);
        let jitter =
            happens(&mut rng, cfg.jitter).then(|| Jitter::draw(&cfg.jitter_strength, &mut rng));
        Self {
            jitter: jitter.map(|Jitter(drawn)| drawn.map(|(what, factor)| (what, factor as f32))),
            grayscale: happens(&mut generator(words, Stream::PairGrayscale), cfg.grayscale),
            flip: happens(&mut generator(words, Stream::PairFlip), cfg.flip),
        }
    }

    /// Changes a picture that is not normalised.
    fn apply(&self, planes: &mut Planes) {
        for (adjustment, factor) in self.jitter.into_iter().flatten() {
            adjustment.apply(planes, factor);
        }
        if self.grayscale {
            grayscale(planes);
        }
        if self.flip {
            horizontal_flip(planes);
        }
    }
}

/// What [`pair_augment`] draws for each of `indices` with the same arguments.
#[must_use]
pub fn pair_draws(
    cfg: &PairAugmentConfig,
    seed: u64,
    step: u64,
    view: u64,
    indices: &[u32],
) -> Vec<PairDraw> {
    let draw = |index: &u32| PairDraw::draw(cfg, [seed, step, u64::from(*index), view]);
    indices.iter().map(draw).collect()
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
    let draws = pair_draws(cfg, seed, step, view, indices);
    pictures
        .par_iter_mut()
        .zip(&draws)
        .for_each(|(planes, draw)| {
            norm.undo_on_planes(planes);
            planes.values.iter_mut().for_each(|v| *v = v.clamp(0., 1.));
            draw.apply(planes);
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
    fn draws_are_made_by_index_and_happen_as_often_as_asked() {
        let cfg = PairAugmentConfig::default();
        let indices: Vec<u32> = (0..1000).collect();
        let draws = pair_draws(&cfg, 1, 2, 0, &indices);
        let alone = pair_draws(&cfg, 1, 2, 0, &indices[7..8]);
        assert_eq!(alone, draws[7..8]);
        assert_ne!(pair_draws(&cfg, 1, 2, 1, &indices), draws);
        let share = |of: &dyn Fn(&PairDraw) -> bool| {
            draws.iter().filter(|draw| of(draw)).count() as f64 / draws.len() as f64
        };
        assert!((share(&|draw| draw.jitter.is_some()) - 0.8).abs() < 0.05);
        assert!((share(&|draw| draw.grayscale) - 0.2).abs() < 0.05);
        assert!((share(&|draw| draw.flip) - 0.5).abs() < 0.05);
    }

    #[test]
    fn a_picture_is_changed_as_its_draw_says() {
        let (cfg, norm) = (PairAugmentConfig::default(), Normalisation::none());
        let indices: Vec<u32> = (0..40).collect();
        let images = images(40).clamp(0f32, 1f32).unwrap();
        let found = values(&pair_augment(&images, &cfg, &norm, 3, 4, 1, &indices).unwrap());
        let before = values(&images);
        let draws = pair_draws(&cfg, 3, 4, 1, &indices);
        assert!(
            draws
                .iter()
                .any(|draw| draw.jitter.is_none() && !draw.grayscale && !draw.flip)
        );
        let pictures = found.chunks(90).zip(before.chunks(90));
        for ((found, before), draw) in pictures.zip(&draws) {
            let mut planes = Planes {
                height: 6,
                width: 5,
                values: before.to_vec(),
            };
            if let Some(jitter) = draw.jitter {
                Jitter(jitter.map(|(what, factor)| (what, f64::from(factor)))).apply(&mut planes);
            }
            if draw.grayscale {
                grayscale(&mut planes);
            }
            if draw.flip {
                horizontal_flip(&mut planes);
            }
            assert_eq!(found, planes.values, "{draw:?}");
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
