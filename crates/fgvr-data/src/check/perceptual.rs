//! A hash of what a picture shows, after which pictures that look alike have hashes of few different bits.

use std::f64::consts::PI;
use std::sync::LazyLock;

use crate::Image;

/// Side of the thumbnail.
const SIDE: usize = 32;

/// Frequencies that are kept, in either direction.
const KEPT: usize = 8;

/// Pixels of the picture that a pixel of the thumbnail is the mean of, at most, in either direction: more of them change
/// no bit and cost time.
const SAMPLES: usize = 16;

/// Row k holds cos(pi k (2 x + 1) / 64), of the discrete cosine transform of type 2.
static COSINES: LazyLock<[[f64; SIDE]; KEPT]> = LazyLock::new(|| {
    std::array::from_fn(|k| {
        std::array::from_fn(|x| (PI * k as f64 * (2 * x + 1) as f64 / (2 * SIDE) as f64).cos())
    })
});

/// A perceptual hash of 64 bits, pHash as the Python package `imagehash` computes it: the brightness of a thumbnail of 32 by 32
/// pixels, its 8 by 8 lowest frequencies by the discrete cosine transform, and of each whether it is above their median.
///
/// Two hashes are compared by [`PerceptualHash::distance`]. Size, compression, brightness and contrast hardly change a
/// hash; a crop, a turn or a mirror image does.
///
/// # Differs
/// The thumbnail is of plain means over at most 16 by 16 pixels each, in place of a Lanczos filter over all; the
/// constant is left out of the median, and its bit is always set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PerceptualHash(u64);

impl PerceptualHash {
    /// The hash of `image`, whose pixels must be as many as its size says, and at least one.
    ///
    /// # Panics
    /// On fewer pixels, or none.
    #[must_use]
    pub fn of(image: &Image) -> Self {
        let thumbnail = thumbnail(image);
        let cosines = &*COSINES;
        // (32, 32) -> (32, 8): along each row.
        let rows: [[f64; KEPT]; SIDE] =
            std::array::from_fn(|y| std::array::from_fn(|k| dot(&cosines[k], |x| thumbnail[y][x])));
        // (32, 8) -> (8, 8): along each column.
        let mut frequencies = [0.; KEPT * KEPT];
        for (at, value) in frequencies.iter_mut().enumerate() {
            let (v, u) = (at / KEPT, at % KEPT);
            *value = dot(&cosines[v], |y| rows[y][u]);
        }
        let mut sorted = [0.; KEPT * KEPT - 1];
        sorted.copy_from_slice(&frequencies[1..]);
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        let bits = (1..).zip(&frequencies[1..]);
        let bits = bits.map(|(bit, value)| u64::from(*value > median) << bit);
        Self(1 | bits.sum::<u64>())
    }

    /// How many bits differ, 0 to 63.
    #[must_use]
    pub fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }

    /// Its bits; never 0.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// From [`bits`](Self::bits); `None` for 0, which no hash has.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }
}

fn dot(weights: &[f64; SIDE], value: impl Fn(usize) -> f64) -> f64 {
    weights
        .iter()
        .enumerate()
        .map(|(i, weight)| weight * value(i))
        .sum()
}

/// Mean brightness of 32 by 32 parts of `image`, 0 to 255.
fn thumbnail(image: &Image) -> [[f64; SIDE]; SIDE] {
    let columns: [(usize, usize); SIDE] = std::array::from_fn(|x| part(image.width, x));
    let [step_x, step_y] = [image.width, image.height].map(|side| (side / (SIDE * SAMPLES)).max(1));
    std::array::from_fn(|y| {
        let (top, bottom) = part(image.height, y);
        let (mut sums, mut rows) = ([0u64; SIDE], 0u64);
        for row in (top..bottom).step_by(step_y) {
            rows += 1;
            let row = &image.pixels[3 * row * image.width..][..3 * image.width];
            for (sum, (left, right)) in sums.iter_mut().zip(columns) {
                let pixels = row[3 * left..3 * right].chunks_exact(3).step_by(step_x);
                // Weights of ITU-R 601, in thousandths.
                let bright = |p: &[u8]| {
                    299 * u64::from(p[0]) + 587 * u64::from(p[1]) + 114 * u64::from(p[2])
                };
                *sum += pixels.map(bright).sum::<u64>();
            }
        }
        std::array::from_fn(|x| {
            let (left, right) = columns[x];
            let pixels = rows * (right - left).div_ceil(step_x) as u64;
            sums[x] as f64 / (1000 * pixels.max(1)) as f64
        })
    })
}

/// Where the part `number` of 32 begins and ends in `length` pixels: at least one pixel each.
fn part(length: usize, number: usize) -> (usize, usize) {
    let start = number * length / SIDE;
    (start, ((number + 1) * length / SIDE).max(start + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blobs at places that `seed` says.
    fn picture(width: usize, height: usize, seed: usize, gain: f64) -> Image {
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let (x, y) = (x as f64 / width as f64, y as f64 / height as f64);
                let blob = |i: usize| {
                    let place =
                        |j: usize| (((seed * 7 + i * 13 + j * 29) * 37) % 101) as f64 / 101.;
                    let off = (x - place(0)).powi(2) + (y - place(1)).powi(2);
                    (-off * 30.).exp() * (place(2) - 0.3)
                };
                let value = 100. + gain * (0..8).map(blob).sum::<f64>() * 120.;
                pixels.extend([value.clamp(0., 255.) as u8; 3]);
            }
        }
        Image {
            width,
            height,
            pixels,
        }
    }

    #[test]
    fn size_and_contrast_hardly_change_a_hash_and_another_picture_does() {
        let hash = |w, h, seed, gain| PerceptualHash::of(&picture(w, h, seed, gain));
        for seed in 0..20 {
            let first = hash(300, 200, seed, 1.);
            for other in [
                hash(150, 100, seed, 1.),
                hash(1300, 1100, seed, 1.),
                hash(300, 200, seed, 0.6),
            ] {
                assert!(first.distance(other) <= 4, "{}", first.distance(other));
            }
            let other = hash(300, 200, seed + 1, 1.);
            assert!(
                first.distance(other) > crate::check::NEAR,
                "{}",
                first.distance(other)
            );
            assert_eq!(PerceptualHash::from_bits(first.bits()), Some(first));
        }
    }

    #[test]
    fn pictures_of_any_size_have_a_hash() {
        for (width, height) in [(1, 1), (1, 500), (31, 33), (511, 512), (2000, 3)] {
            let hash = PerceptualHash::of(&picture(width, height, 0, 1.));
            assert_eq!(hash.bits() & 1, 1);
        }
        assert_eq!(PerceptualHash::from_bits(0), None);
    }
}
