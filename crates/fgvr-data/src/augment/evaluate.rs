//! The fixed view that evaluation sees.

use super::Region;
use super::resize::resize_window;
use crate::{Image, Normalisation};

/// The usual 256 to 224: how much larger than the crop the photo is made first.
pub const RESIZE_RATIO: f64 = 256. / 224.;

/// Resizes the shorter side to `size * resize_ratio` (rounded; a ratio below 1 counts as 1), takes
/// the centre of `size` x `size`, and normalises: (3, `size`, `size`).
///
/// torchvision's `Resize` (bilinear, antialiased) and `CenterCrop`, without computing the pixels
/// that the crop drops.
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
    let shorter = ((size as f64 * resize_ratio).round_ties_even() as usize).max(size);
    let longer = |long: usize, short: usize| shorter * long / short;
    let (height, width) = if image.height <= image.width {
        (shorter, longer(image.width, image.height))
    } else {
        (longer(image.height, image.width), shorter)
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
    let mut planes = resize_window(image, whole, (height, width), window);
    norm.apply_to_planes(&mut planes);
    planes.values
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
