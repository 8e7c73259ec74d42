//! Brightness, contrast, saturation and hue, as torchvision defines them on float tensors.

use rand_chacha::ChaCha8Rng;

use super::Planes;
use super::grayscale::luminance;
use crate::keyed::{shuffle, uniform};

/// How far each adjustment may go. Brightness, contrast and saturation are multiplied by a factor
/// in `[max(0, 1 - s), 1 + s]`; hue is turned by a fraction of the circle in `[-s, s]`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct JitterStrength {
    /// Strength of brightness.
    pub brightness: f64,
    /// Strength of contrast.
    pub contrast: f64,
    /// Strength of saturation.
    pub saturation: f64,
    /// Strength of hue, at most 0.5.
    pub hue: f64,
}

impl Default for JitterStrength {
    /// MoCo v2's 0.4, 0.4, 0.4, 0.1.
    fn default() -> Self {
        Self {
            brightness: 0.4,
            contrast: 0.4,
            saturation: 0.4,
            hue: 0.1,
        }
    }
}

/// One of the four adjustments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// [`adjust_brightness`].
    Brightness,
    /// [`adjust_contrast`].
    Contrast,
    /// [`adjust_saturation`].
    Saturation,
    /// [`adjust_hue`].
    Hue,
}

impl Adjustment {
    pub(super) fn apply(self, planes: &mut Planes, factor: f32) {
        match self {
            Self::Brightness => adjust_brightness(planes, factor),
            Self::Contrast => adjust_contrast(planes, factor),
            Self::Saturation => adjust_saturation(planes, factor),
            Self::Hue => adjust_hue(planes, factor),
        }
    }
}

/// The adjustments of one view with their factors, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Jitter(pub [(Adjustment, f64); 4]);

impl Jitter {
    /// Draws factors and their order.
    pub fn draw(strength: &JitterStrength, rng: &mut ChaCha8Rng) -> Self {
        let mut factor = |s: f64| uniform(rng, [(1. - s).max(0.), 1. + s]);
        let mut adjustments = [
            (Adjustment::Brightness, factor(strength.brightness)),
            (Adjustment::Contrast, factor(strength.contrast)),
            (Adjustment::Saturation, factor(strength.saturation)),
            (Adjustment::Hue, 0.),
        ];
        adjustments[3].1 = uniform(rng, [-strength.hue, strength.hue]);
        shuffle(rng, &mut adjustments);
        Self(adjustments)
    }

    /// Applies the adjustments in order.
    pub fn apply(&self, planes: &mut Planes) {
        for &(adjustment, factor) in &self.0 {
            adjustment.apply(planes, factor as f32);
        }
    }
}

/// `factor` times the picture, cut off at 1.
pub fn adjust_brightness(planes: &mut Planes, factor: f32) {
    for value in &mut planes.values {
        *value = (*value * factor).clamp(0., 1.);
    }
}

/// Away from (or towards) the mean luminance of the picture.
pub fn adjust_contrast(planes: &mut Planes, factor: f32) {
    let [red, green, blue] = planes.channels();
    let sum: f64 = red
        .iter()
        .zip(green)
        .zip(blue)
        .map(|((r, g), b)| f64::from(luminance(*r, *g, *b)))
        .sum();
    let mean = (sum / red.len().max(1) as f64) as f32;
    let rest = (1. - factor) * mean;
    for value in &mut planes.values {
        *value = (*value * factor + rest).clamp(0., 1.);
    }
}

/// Away from (or towards) each pixel's luminance.
pub fn adjust_saturation(planes: &mut Planes, factor: f32) {
    let [red, green, blue] = planes.channels_mut();
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let rest = (1. - factor) * luminance(*r, *g, *b);
        *r = (*r * factor + rest).clamp(0., 1.);
        *g = (*g * factor + rest).clamp(0., 1.);
        *b = (*b * factor + rest).clamp(0., 1.);
    }
}

/// Turns the hue by `turn` of the full circle, in [-0.5, 0.5].
pub fn adjust_hue(planes: &mut Planes, turn: f32) {
    let [red, green, blue] = planes.channels_mut();
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        (*r, *g, *b) = turned(*r, *g, *b, turn);
    }
}

/// RGB to HSV, the hue turned, and back. Written with selections instead of branches, which
/// vectorise; hue is kept in sixths of the circle.
#[inline]
fn turned(r: f32, g: f32, b: f32, turn: f32) -> (f32, f32, f32) {
    let high = r.max(g).max(b);
    let low = r.min(g).min(b);
    let range = high - low;
    // A grey has no hue: any divisor but 0 will do, as the range that multiplies later is 0.
    let divisor = if range == 0. { 1. } else { range };
    let (rc, gc, bc) = (
        (high - r) / divisor,
        (high - g) / divisor,
        (high - b) / divisor,
    );
    let hue = if high == r {
        bc - gc
    } else if high == g {
        2. + rc - bc
    } else {
        4. + gc - rc
    };
    let hue = wrapped(hue + 6. * turn);
    // f(n) = v - v s max(0, min(k, 4 - k, 1)), k = (n + hue) mod 6, with v s = range
    let channel = |n: f32| {
        let k = n + hue;
        let k = if k >= 6. { k - 6. } else { k };
        (high - range * k.min(4. - k).clamp(0., 1.)).clamp(0., 1.)
    };
    (channel(5.), channel(3.), channel(1.))
}

/// A hue in sixths, at most one turn off, brought into [0, 6).
#[inline]
fn wrapped(hue: f32) -> f32 {
    let hue = if hue < 0. { hue + 6. } else { hue };
    if hue >= 6. { hue - 6. } else { hue }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::{Stream, generator};

    #[test]
    fn a_third_of_a_turn_moves_red_to_green() {
        let (r, g, b) = turned(1., 0., 0., 1. / 3.);
        assert!(r < 1e-6 && (g - 1.).abs() < 1e-6 && b < 1e-6);
    }

    #[test]
    fn every_order_is_drawn_and_factors_stay_in_range() {
        let strength = JitterStrength::default();
        let mut firsts = [0; 4];
        for index in 0..400 {
            let Jitter(drawn) =
                Jitter::draw(&strength, &mut generator([1, 0, index, 0], Stream::Jitter));
            firsts[drawn[0].0 as usize] += 1;
            for (adjustment, factor) in drawn {
                let range = if adjustment == Adjustment::Hue {
                    -0.1..=0.1
                } else {
                    0.6..=1.4
                };
                assert!(range.contains(&factor));
            }
        }
        assert!(firsts.iter().all(|&count| count > 60), "{firsts:?}");
    }

    #[test]
    fn strength_zero_changes_nothing_visible() {
        let strength = JitterStrength {
            brightness: 0.,
            contrast: 0.,
            saturation: 0.,
            hue: 0.,
        };
        let mut planes = Planes {
            height: 2,
            width: 2,
            values: (0..12).map(|i| i as f32 / 12.).collect(),
        };
        let before = planes.clone();
        Jitter::draw(&strength, &mut generator([1; 4], Stream::Jitter)).apply(&mut planes);
        for (after, before) in planes.values.iter().zip(&before.values) {
            assert!((after - before).abs() < 1e-6);
        }
    }
}
