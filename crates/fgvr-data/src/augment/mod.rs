//! Random views of a photo, and the fixed one for evaluation.
//!
//! A view is drawn ([`View::draw`]: which crop, which factors, in which order) and then made
//! ([`View::apply`]), so that what is drawn can be tested apart from what is computed. All draws
//! come from a [`ViewKey`]; each transform draws from its own stream of it, so that changing one
//! transform's settings leaves the others' draws as they were.

mod colour_jitter;
mod config;
mod evaluate;
mod gaussian_blur;
mod grayscale;
mod horizontal_flip;
mod pair;
mod planes;
mod random_resized_crop;
mod resize;
mod solarise;

pub use colour_jitter::{
    Adjustment, Jitter, JitterStrength, adjust_brightness, adjust_contrast, adjust_hue,
    adjust_saturation,
};
pub use config::{AugmentConfig, moco_v2, moco_v3_views};
pub use evaluate::{EvaluationView, Fit, RESIZE_RATIO, evaluate_transform};
pub use gaussian_blur::{gaussian_blur, kernel_for};
pub use grayscale::grayscale;
pub use horizontal_flip::horizontal_flip;
pub use pair::{PairAugmentConfig, PairDraw, pair_augment, pair_draws};
pub use planes::Planes;
pub use random_resized_crop::{central_crop, random_resized_crop};
pub use resize::{Interpolation, Region, resize, resize_by};
pub use solarise::solarise;

use rand_chacha::ChaCha8Rng;

use crate::keyed::{Stream, generator, happens, uniform};
use crate::{Image, Normalisation};

/// What the randomness of a view depends on, and nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewKey {
    /// The run's.
    pub seed: u64,
    /// Counted from 0.
    pub epoch: u64,
    /// The image's in its data set.
    pub index: u64,
    /// Which view of the image, from 0.
    pub view: u64,
}

impl ViewKey {
    fn generator(self, stream: Stream) -> ChaCha8Rng {
        generator([self.seed, self.epoch, self.index, self.view], stream)
    }
}

/// All that is random about one view.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The part of the photo that is shown.
    pub crop: Region,
    /// Colour jitter, if any.
    pub jitter: Option<Jitter>,
    /// Whether colour is left out.
    pub grayscale: bool,
    /// Kernel width and standard deviation of the blur in output pixels, if any.
    pub blur: Option<(usize, f64)>,
    /// Threshold of solarisation, if any.
    pub solarise: Option<f64>,
    /// Whether left and right are exchanged.
    pub flip: bool,
}

impl View {
    /// Draws a view of `size` pixels of a photo of `height` x `width`.
    #[must_use]
    pub fn draw(
        height: usize,
        width: usize,
        size: usize,
        cfg: &AugmentConfig,
        key: ViewKey,
    ) -> Self {
        let crop = random_resized_crop(
            height,
            width,
            cfg.crop_scale,
            cfg.crop_ratio,
            &mut key.generator(Stream::Crop),
        );
        let mut rng = key.generator(Stream::Jitter);
        let jitter =
            happens(&mut rng, cfg.jitter).then(|| Jitter::draw(&cfg.jitter_strength, &mut rng));
        let grayscale = happens(&mut key.generator(Stream::Grayscale), cfg.grayscale);
        let mut rng = key.generator(Stream::Blur);
        let blur = happens(&mut rng, cfg.blur)
            .then(|| (kernel_for(size), uniform(&mut rng, cfg.blur_sigma)));
        let solarise = happens(&mut key.generator(Stream::Solarise), cfg.solarise);
        Self {
            crop,
            jitter,
            grayscale,
            blur,
            solarise: solarise.then_some(cfg.solarise_threshold),
            flip: happens(&mut key.generator(Stream::Flip), cfg.flip),
        }
    }

    /// Makes the view, not yet normalised: crop, jitter, greys, blur, solarisation, flip.
    ///
    /// # Panics
    /// On an image without pixels, or with fewer than its size says.
    #[must_use]
    pub fn apply(&self, image: &Image, size: usize) -> Planes {
        self.apply_by(image, size, Interpolation::Bilinear)
    }

    /// [`apply`](Self::apply) with any interpolation.
    ///
    /// # Panics
    /// On an image without pixels, or with fewer than its size says.
    #[must_use]
    pub fn apply_by(&self, image: &Image, size: usize, by: Interpolation) -> Planes {
        let mut planes = resize_by(image, self.crop, (size, size), by);
        if let Some(jitter) = &self.jitter {
            jitter.apply(&mut planes);
        }
        if self.grayscale {
            grayscale(&mut planes);
        }
        if let Some((kernel, sigma)) = self.blur {
            gaussian_blur(&mut planes, kernel, sigma);
        }
        if let Some(threshold) = self.solarise {
            solarise(&mut planes, threshold as f32);
        }
        if self.flip {
            horizontal_flip(&mut planes);
        }
        planes
    }
}

/// A random view of `image`: (3, `size`, `size`), normalised.
///
/// The same for the same `key`, whatever came before. Settings are taken as they are; check them
/// once with [`AugmentConfig::validate`].
///
/// ```
/// use fgvr_data::augment::{AugmentConfig, ViewKey, augment};
/// use fgvr_data::{Image, Normalisation};
/// let image = Image { width: 40, height: 30, pixels: vec![128; 3 * 40 * 30] };
/// let key = ViewKey { seed: 1, epoch: 0, index: 0, view: 0 };
/// let view = augment(&image, 16, &AugmentConfig::default(), &Normalisation::imagenet(), key);
/// assert_eq!(view.len(), 3 * 16 * 16);
/// ```
///
/// # Panics
/// On an image without pixels, or with fewer than its size says.
#[must_use]
pub fn augment(
    image: &Image,
    size: usize,
    cfg: &AugmentConfig,
    norm: &Normalisation,
    key: ViewKey,
) -> Vec<f32> {
    augment_by(image, size, cfg, Interpolation::Bilinear, norm, key)
}

/// [`augment`] with any interpolation.
///
/// # Panics
/// On an image without pixels, or with fewer than its size says.
#[must_use]
pub fn augment_by(
    image: &Image,
    size: usize,
    cfg: &AugmentConfig,
    by: Interpolation,
    norm: &Normalisation,
    key: ViewKey,
) -> Vec<f32> {
    let view = View::draw(image.height, image.width, size, cfg, key);
    let mut planes = view.apply_by(image, size, by);
    norm.apply_to_planes(&mut planes);
    planes.values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn photo() -> Image {
        let (width, height) = (50, 40);
        let pixels = (0..3 * width * height)
            .map(|i| (i * i % 251) as u8)
            .collect();
        Image {
            width,
            height,
            pixels,
        }
    }

    fn key(index: u64, view: u64) -> ViewKey {
        ViewKey {
            seed: 7,
            epoch: 2,
            index,
            view,
        }
    }

    #[test]
    fn the_key_alone_decides() {
        let norm = Normalisation::imagenet();
        let make = |key| augment(&photo(), 24, &moco_v2(), &norm, key);
        assert_eq!(make(key(0, 0)), make(key(0, 0)));
        assert_ne!(make(key(0, 0)), make(key(0, 1)));
        assert_ne!(make(key(0, 0)), make(key(1, 0)));
    }

    #[test]
    fn changing_one_transform_leaves_the_other_draws() {
        let other = AugmentConfig {
            jitter: 0.,
            blur: 1.,
            ..moco_v2()
        };
        for index in 0..50 {
            let a = View::draw(40, 50, 24, &moco_v2(), key(index, 0));
            let b = View::draw(40, 50, 24, &other, key(index, 0));
            assert_eq!((a.crop, a.grayscale, a.flip), (b.crop, b.grayscale, b.flip));
        }
    }

    #[test]
    fn transforms_happen_as_often_as_asked() {
        let [_, second] = moco_v3_views();
        let views: Vec<View> = (0..2000)
            .map(|i| View::draw(40, 50, 24, &second, key(i, 1)))
            .collect();
        let share = |f: fn(&View) -> bool| views.iter().filter(|v| f(v)).count() as f64 / 2000.;
        for (found, expected) in [
            (share(|v| v.jitter.is_some()), 0.8),
            (share(|v| v.grayscale), 0.2),
            (share(|v| v.blur.is_some()), 0.1),
            (share(|v| v.solarise.is_some()), 0.2),
            (share(|v| v.flip), 0.5),
        ] {
            assert!((found - expected).abs() < 0.04, "{found} for {expected}");
        }
    }

    #[test]
    fn without_any_transform_a_view_is_the_resized_photo() {
        let image = photo();
        let view = View::draw(40, 50, 24, &AugmentConfig::none(), key(3, 0));
        let whole = Region {
            top: 0,
            left: 0,
            height: 40,
            width: 50,
        };
        assert_eq!(view.apply(&image, 24), resize(&image, whole, (24, 24)));
    }
}
