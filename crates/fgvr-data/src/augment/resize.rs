//! Resampling with antialiasing, straight from 8-bit pixels.
//!
//! Each output pixel is a weighted mean of the source pixels under it, by a triangle, a cubic or another
//! of PIL's kernels; when shrinking, the kernel is widened by the scale. Rows first (contiguous, so that the compiler vectorises), then
//! columns, into float planes.

use std::f64::consts::PI;
use std::str::FromStr;

use super::Planes;
use crate::{Error, Image};

/// A rectangle of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// How the source pixels under an output pixel are weighted, by their distance t from its centre in
/// units of the larger of the two pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Interpolation {
    /// The source pixel under the centre, whatever the scale.
    Nearest,
    /// 1 - |t|, as far as |t| = 1.
    #[default]
    Bilinear,
    /// Keys' cubic with a = -1/2 (IEEE TASSP 29, 1981), as far as |t| = 2: PIL's, and PyTorch's where
    /// it antialiases.
    Bicubic,
    /// The same weight as far as |t| = 1/2: PIL's.
    Box,
    /// sin(pi t) / (pi t) under a Hamming window, as far as |t| = 1: PIL's.
    Hamming,
    /// sin(pi t) / (pi t) under a window of the same form three times as wide (Duchon, J. Appl. Meteor.
    /// 18, 1979), as far as |t| = 3: PIL's.
    Lanczos,
}

impl FromStr for Interpolation {
    type Err = Error;

    /// Takes the name of one of Pillow's filters in lower case, as weights report it: `nearest`, `bilinear`, `bicubic`, `box`,
    /// `hamming`, `lanczos`.
    fn from_str(name: &str) -> Result<Self, Error> {
        Ok(match name {
            "nearest" => Self::Nearest,
            "bilinear" => Self::Bilinear,
            "bicubic" => Self::Bicubic,
            "box" => Self::Box,
            "hamming" => Self::Hamming,
            "lanczos" => Self::Lanczos,
            _ => {
                return Err(Error::Setting {
                    setting: "interpolation",
                    found: format!("{name:?}"),
                    expected: "nearest, bilinear, bicubic, box, hamming or lanczos".to_owned(),
                });
            }
        })
    }
}

impl Interpolation {
    /// Where the kernel ends.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.,
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.,
            Self::Bicubic => 2.,
            Self::Lanczos => 3.,
        }
    }

    fn weight(self, t: f64) -> f64 {
        // Of a pixel that lies between two, a box takes the one before.
        if self == Self::Box {
            return if t > -0.5 && t <= 0.5 { 1. } else { 0. };
        }
        let t = t.abs();
        let wave = |t: f64| {
            if t == 0. {
                1.
            } else {
                (PI * t).sin() / (PI * t)
            }
        };
        match self {
            Self::Hamming if t < 1. => wave(t) * (0.54 + 0.46 * (PI * t).cos()),
            Self::Lanczos if t < 3. => wave(t) * wave(t / 3.),
            Self::Nearest | Self::Box | Self::Hamming | Self::Lanczos => 0.,
            Self::Bilinear => (1. - t).max(0.),
            Self::Bicubic if t < 1. => (1.5 * t - 2.5) * t * t + 1.,
            Self::Bicubic if t < 2. => ((-0.5 * t + 2.5) * t - 4.) * t + 2.,
            Self::Bicubic => 0.,
        }
    }
}

/// The source pixels of one output pixel: weights from `first` on, which add up to 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// Resizes `region` of `image` to `size` rows and columns, bilinearly; values in [0, 1].
///
/// Nothing outside the region is read, as when the region were cut out first. Same definition as
/// PyTorch's `interpolate(mode="bilinear", antialias=True)`.
///
/// # Panics
/// If `region` is empty or leaves the image, or `image.pixels` is shorter than its size says.
#[must_use]
pub fn resize(image: &Image, region: Region, size: (usize, usize)) -> Planes {
    resize_by(image, region, size, Interpolation::Bilinear)
}

/// [`resize`] with any interpolation. What a cubic overshoots is cut off.
///
/// # Panics
/// If `region` is empty or leaves the image, or the image has fewer pixels than its size says.
#[must_use]
pub fn resize_by(image: &Image, region: Region, size: (usize, usize), by: Interpolation) -> Planes {
    let window = Region {
        top: 0,
        left: 0,
        height: size.0,
        width: size.1,
    };
    resize_window(image, region, size, window, by)
}

/// The part `window` of what [`resize`] makes, with any interpolation, without computing the rest.
pub(crate) fn resize_window(
    image: &Image,
    region: Region,
    size: (usize, usize),
    window: Region,
    by: Interpolation,
) -> Planes {
    let rows = taps(by, region.height, size.0, window.top, window.height);
    let columns = taps(by, region.width, size.1, window.left, window.width);
    let mut planes = Planes::zeros(window.height, window.width);
    // Only the source columns that some output column needs.
    let first = columns.first().map_or(0, |t| t.first);
    let end = columns.last().map_or(0, |t| t.first + t.weights.len());
    let mut row = vec![0f32; 3 * (end - first)];
    for (y, tap) in rows.iter().enumerate() {
        row.fill(0.);
        for (i, weight) in tap.weights.iter().enumerate() {
            let weight = weight / 255.;
            let start = (region.top + tap.first + i) * image.width + region.left + first;
            let source = &image.pixels[3 * start..][..row.len()];
            for (sum, &pixel) in row.iter_mut().zip(source) {
                *sum += weight * f32::from(pixel);
            }
        }
        let width = planes.width;
        let [red, green, blue] = planes.channels_mut();
        for (x, tap) in columns.iter().enumerate() {
            let mut sums = [0f32; 3];
            let source = row[3 * (tap.first - first)..].chunks_exact(3);
            for (pixel, weight) in source.zip(&tap.weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * value;
                }
            }
            // Weights add up to 1 but for rounding, and a cubic's may be negative: values must not
            // leave [0, 1].
            red[y * width + x] = sums[0].clamp(0., 1.);
            green[y * width + x] = sums[1].clamp(0., 1.);
            blue[y * width + x] = sums[2].clamp(0., 1.);
        }
    }
    planes
}

/// The taps of the outputs `start..start + count` of `to`, over `from` source pixels.
fn taps(by: Interpolation, from: usize, to: usize, start: usize, count: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let unit = scale.max(1.);
    let support = by.support() * unit;
    (start..start + count)
        .map(|i| {
            let centre = scale * (i as f64 + 0.5);
            if by == Interpolation::Nearest {
                return Taps {
                    first: (centre as usize).min(from - 1),
                    weights: vec![1.],
                };
            }
            let first = (centre - support + 0.5).max(0.) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let weight = |j: usize| by.weight((j as f64 + 0.5 - centre) / unit);
            let total: f64 = (first..end).map(weight).sum();
            Taps {
                first,
                weights: (first..end).map(|j| (weight(j) / total) as f32).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(height: usize, width: usize) -> Image {
        let pixels = (0..3 * height * width)
            .map(|i| (i * 7 % 256) as u8)
            .collect();
        Image {
            width,
            height,
            pixels,
        }
    }

    #[test]
    fn resizing_to_the_same_size_changes_nothing() {
        let image = ramp(5, 6);
        let whole = Region {
            top: 0,
            left: 0,
            height: 5,
            width: 6,
        };
        let planes = resize(&image, whole, (5, 6));
        for (c, plane) in planes.channels().into_iter().enumerate() {
            for (i, value) in plane.iter().enumerate() {
                let expected = f32::from(image.pixels[3 * i + c]) / 255.;
                assert!((value - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        let image = ramp(31, 23);
        let region = Region {
            top: 2,
            left: 3,
            height: 27,
            width: 19,
        };
        let window = Region {
            top: 4,
            left: 1,
            height: 5,
            width: 6,
        };
        let whole = resize(&image, region, (12, 11));
        let bilinear = Interpolation::Bilinear;
        let part = resize_window(&image, region, (12, 11), window, bilinear);
        for c in 0..3 {
            for y in 0..5 {
                let expected = &whole.channels()[c][(y + 4) * 11 + 1..][..6];
                assert_eq!(&part.channels()[c][y * 6..][..6], expected);
            }
        }
    }

    #[test]
    fn the_cubic_is_one_at_zero_and_zero_at_whole_numbers() {
        let weight = |t| Interpolation::Bicubic.weight(t);
        assert_eq!([0., 1., -1., 2., 3.].map(weight), [1., 0., 0., 0., 0.]);
        assert_eq!(weight(0.5), 0.5625);
        assert_eq!(weight(-1.5), -0.0625);
    }

    #[test]
    fn the_cubic_overshoots_at_an_edge_and_is_kept_in_range() {
        let (width, height) = (8, 2);
        let pixels = (0..3 * width * height)
            .map(|i| if i / 3 % width < 4 { 0 } else { 255 })
            .collect();
        let image = Image {
            width,
            height,
            pixels,
        };
        let whole = Region {
            top: 0,
            left: 0,
            height,
            width,
        };
        let window = Region { width: 19, ..whole };
        let planes = |by| resize_window(&image, whole, (2, 19), window, by).values;
        let (linear, cubic) = (
            planes(Interpolation::Bilinear),
            planes(Interpolation::Bicubic),
        );
        assert!(cubic.iter().all(|v| (0. ..=1.).contains(v)));
        let off = linear.iter().zip(&cubic).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0., f32::max) > 0.02);
    }

    #[test]
    fn a_constant_picture_stays_constant_at_any_size() {
        let image = Image {
            width: 37,
            height: 5,
            pixels: vec![255; 3 * 37 * 5],
        };
        let region = Region {
            top: 0,
            left: 0,
            height: 5,
            width: 37,
        };
        for size in [(1, 1), (3, 50), (90, 2)] {
            let planes = resize(&image, region, size);
            assert!(planes.values.iter().all(|v| (0.999_999..=1.).contains(v)));
        }
    }
}
