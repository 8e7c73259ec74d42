//! The fixed view that evaluation sees.

use super::Region;
use super::resize::{Interpolation, resize_by, resize_window};
use crate::{Error, Image, Normalisation, PartMask};

/// The usual 256 to 224: how much larger than the crop the photo is made first.
pub const RESIZE_RATIO: f64 = 256. / 224.;

/// Which part of a photo evaluation sees, and how it is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationView {
    /// Side of the square that the network sees.
    pub size: usize,
    /// How the photo gets there.
    pub fit: Fit,
    /// How the photo is resized.
    pub interpolation: Interpolation,
}

/// How a photo of any shape becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Its shorter side gets this many pixels (the square's side at least), and the middle is cut out.
    Crop(usize),
    /// Both sides get the square's, whatever the photo's shape.
    Squash,
}

impl EvaluationView {
    /// The shorter side becomes `size * resize_ratio`, rounded; a ratio below 1 counts as 1. Bilinear.
    #[must_use]
    pub fn of_ratio(size: usize, resize_ratio: f64) -> Self {
        Self {
            size,
            fit: Fit::Crop(((size as f64 * resize_ratio).round_ties_even() as usize).max(size)),
            interpolation: Interpolation::Bilinear,
        }
    }

    /// As the preprocessing of a timm network says it: the shorter side becomes `size / crop_pct`,
    /// rounded down.
    ///
    /// # Errors
    /// [`Error::Setting`] for a `crop_pct` that is not above 0 and at most 1, and for size 0.
    pub fn of_crop_pct(
        size: usize,
        crop_pct: f64,
        interpolation: Interpolation,
    ) -> Result<Self, Error> {
        if !(crop_pct > 0. && crop_pct <= 1.) {
            return Err(Error::Setting {
                setting: "crop_pct",
                found: crop_pct.to_string(),
                expected: "a number above 0 and at most 1".to_owned(),
            });
        }
        if size == 0 {
            return Err(Error::Setting {
                setting: "size",
                found: "0".to_owned(),
                expected: "at least 1 pixel".to_owned(),
            });
        }
        Ok(Self {
            size,
            fit: Fit::Crop((size as f64 / crop_pct).floor() as usize),
            interpolation,
        })
    }

    /// As the preprocessing of weights says it: the size (height, width) that the network sees, the pixels that the
    /// shorter side gets before the middle is cut out (`None` where both sides are brought to the network's size), and
    /// the name of the interpolation. fgvr-encoder's `Preprocessing` has these.
    ///
    /// # Errors
    /// [`Error::Setting`] for a size that is no square of at least one pixel, and an unknown interpolation.
    pub fn of_preprocessing(
        size: [usize; 2],
        shorter_side: Option<usize>,
        interpolation: &str,
    ) -> Result<Self, Error> {
        let [height, width] = size;
        if height != width || height == 0 {
            return Err(Error::Setting {
                setting: "size",
                found: format!("{height} x {width} pixels"),
                expected: "a square of at least one pixel".to_owned(),
            });
        }
        Ok(Self {
            size: height,
            fit: match shorter_side {
                Some(side) => Fit::Crop(side.max(height)),
                None => Fit::Squash,
            },
            interpolation: interpolation.parse()?,
        })
    }

    /// This view of `image`, normalised: (3, `size`, `size`).
    ///
    /// torchvision's `Resize` (antialiased) and `CenterCrop`, without computing the pixels that the
    /// crop drops.
    ///
    /// # Differs
    /// PIL rounds to 8 bits after each direction, and cuts off what a cubic overshoots; torchvision on
    /// tensors does so once, in the end. Here nothing is rounded, and the end alone is kept in range.
    ///
    /// # Panics
    /// On an image without pixels, or with fewer than its size says.
    #[must_use]
    pub fn apply(&self, image: &Image, norm: &Normalisation) -> Vec<f32> {
        let size = self.size;
        let (height, width) = match self.fit {
            Fit::Squash => (size, size),
            Fit::Crop(shorter) => {
                let shorter = shorter.max(size);
                let longer = |long: usize, short: usize| shorter * long / short;
                if image.height <= image.width {
                    (shorter, longer(image.width, image.height))
                } else {
                    (longer(image.height, image.width), shorter)
                }
            }
        };
        let middle = |length: usize| ((length - size) as f64 / 2.).round_ties_even() as usize;
        let window = Region {
            top: middle(height),
            left: middle(width),
            height: size,
            width: size,
        };
        let whole = Region {
            top: 0,
            left: 0,
            height: image.height,
            width: image.width,
        };
        let mut planes = resize_window(image, whole, (height, width), window, self.interpolation);
        norm.apply_to_planes(&mut planes);
        planes.values
    }

    /// This view of a part mask: what [`apply`](Self::apply) shows of an image, shown of its mask: `size * size` values
    /// in [0, 1]. A mask that has the view's size already stays as it is.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a mask without pixels, or with another number of values than its size says.
    pub fn apply_to_mask(&self, mask: &PartMask) -> Result<Vec<f32>, Error> {
        let expected = mask.width.checked_mul(mask.height);
        if mask.values.is_empty() || expected != Some(mask.values.len()) {
            return Err(Error::Malformed {
                id: "part mask".to_owned(),
                width: mask.width,
                height: mask.height,
                bytes: 3 * mask.values.len(),
            });
        }
        let size = self.size;
        if (mask.width, mask.height) == (size, size) {
            return Ok(mask.values.clone());
        }
        let grey = mask
            .values
            .iter()
            .flat_map(|value| [(value * 255.).round() as u8; 3]);
        let image = Image {
            width: mask.width,
            height: mask.height,
            pixels: grey.collect(),
        };
        let mut values = self.apply(&image, &Normalisation::none());
        values.truncate(size * size);
        // A cubic overshoots, and sums of weights round.
        values
            .iter_mut()
            .for_each(|value| *value = value.clamp(0., 1.));
        Ok(values)
    }

    /// The part `region` of `image` alone, its sides brought to the square's, normalised: (3, `size`, `size`).
    ///
    /// # Panics
    /// If `region` is empty or leaves the image, or the image has fewer pixels than its size says.
    #[must_use]
    pub fn apply_to(&self, image: &Image, region: Region, norm: &Normalisation) -> Vec<f32> {
        let mut planes = resize_by(image, region, (self.size, self.size), self.interpolation);
        norm.apply_to_planes(&mut planes);
        planes.values
    }
}

/// The usual view for evaluation, normalised: (3, `size`, `size`). See [`EvaluationView::of_ratio`].
///
/// # Panics
/// On an image without pixels, or with fewer than its size says.
#[must_use]
pub fn evaluate_transform(
    image: &Image,
    size: usize,
    resize_ratio: f64,
    norm: &Normalisation,
) -> Vec<f32> {
    EvaluationView::of_ratio(size, resize_ratio).apply(image, norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_weights_make_a_view() {
        let view = EvaluationView::of_preprocessing([224; 2], Some(248), "bicubic").unwrap();
        let of_pct = EvaluationView::of_crop_pct(224, 0.9, Interpolation::Bicubic).unwrap();
        assert_eq!(view, of_pct);
        let view = EvaluationView::of_preprocessing([64; 2], None, "lanczos").unwrap();
        assert_eq!(
            (view.fit, view.interpolation),
            (Fit::Squash, Interpolation::Lanczos)
        );
        let text = |size, name| {
            EvaluationView::of_preprocessing(size, None, name)
                .unwrap_err()
                .to_string()
        };
        assert!(text([224, 192], "box").contains("size is 224 x 192 pixels"));
        assert!(text([0, 0], "box").contains("a square of at least one pixel"));
        assert!(text([8, 8], "cubic").contains("interpolation is \"cubic\", expected nearest"));
    }

    #[test]
    fn squashing_keeps_all_of_a_wide_photo() {
        let (width, height) = (90, 30);
        let shade = |i: usize| {
            if (30..60).contains(&(i % width)) {
                200
            } else {
                0
            }
        };
        let pixels = (0..width * height).flat_map(|i| [shade(i); 3]).collect();
        let image = Image {
            width,
            height,
            pixels,
        };
        let view = EvaluationView {
            size: 30,
            fit: Fit::Squash,
            interpolation: Interpolation::Bilinear,
        };
        let row = &view.apply(&image, &Normalisation::none())[..30];
        assert!(row[15] > 0.7 && row[2] < 0.05 && row[27] < 0.05, "{row:?}");
    }

    #[test]
    fn a_mask_is_shown_as_its_image_is() {
        // The left half of a wide image is part: of the square in the middle, half is left.
        let (width, height) = (90, 30);
        let part = |i: usize| f32::from(u8::from(i % width < 45));
        let mut mask = PartMask {
            width,
            height,
            values: (0..width * height).map(part).collect(),
        };
        let view = EvaluationView::of_ratio(10, 1.);
        let row = view.apply_to_mask(&mask).unwrap()[..10].to_vec();
        assert!(
            row[..4].iter().all(|v| *v > 0.99) && row[6..].iter().all(|v| *v < 0.01),
            "{row:?}"
        );
        let same = EvaluationView::of_ratio(30, 1.);
        mask.values.truncate(900);
        assert!(same.apply_to_mask(&mask).is_err());
        mask.width = 30;
        assert_eq!(same.apply_to_mask(&mask).unwrap(), mask.values);
    }

    #[test]
    fn the_middle_of_a_wide_photo_is_taken() {
        let (width, height) = (90, 30);
        let pixels = (0..width * height)
            .flat_map(|i| {
                [if (30..60).contains(&(i % width)) {
                    200
                } else {
                    0
                }; 3]
            })
            .collect();
        let image = Image {
            width,
            height,
            pixels,
        };
        let norm = Normalisation::none();
        let middle = evaluate_transform(&image, 28, RESIZE_RATIO, &norm);
        assert!(middle.iter().all(|v| (v - 200. / 255.).abs() < 1e-5));
    }

    #[test]
    fn photos_smaller_than_the_view_are_enlarged() {
        let image = Image {
            width: 2,
            height: 3,
            pixels: vec![51; 18],
        };
        let view = evaluate_transform(&image, 16, 0.5, &Normalisation::none());
        assert_eq!(view.len(), 3 * 16 * 16);
        assert!(view.iter().all(|v| (v - 0.2).abs() < 1e-6));
    }

    #[test]
    fn the_shorter_side_follows_from_crop_pct_as_in_timm() {
        let shorter = |size, crop_pct| {
            let by = Interpolation::Bicubic;
            EvaluationView::of_crop_pct(size, crop_pct, by).map(|view| view.fit)
        };
        assert_eq!(shorter(224, 0.875).unwrap(), Fit::Crop(256));
        assert_eq!(shorter(224, 0.9).unwrap(), Fit::Crop(248));
        assert_eq!(shorter(224, 0.95).unwrap(), Fit::Crop(235));
        assert_eq!(shorter(518, 1.).unwrap(), Fit::Crop(518));
        for (size, crop_pct) in [(224, 0.), (224, 1.1), (224, f64::NAN), (0, 0.9)] {
            assert!(shorter(size, crop_pct).is_err(), "{size} {crop_pct}");
        }
    }
}
