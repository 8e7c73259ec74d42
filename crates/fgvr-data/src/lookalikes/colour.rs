//! Plumage and surroundings: colours that vary from image to image and tell nothing of the class.

use super::canvas::Colour;
use super::draw::Draw;

/// The colours of one bird.
#[derive(Clone, Debug)]
pub(super) struct Plumage {
    pub(super) body: Colour,
    pub(super) wing: Colour,
    pub(super) head: Colour,
    pub(super) breast: Colour,
    pub(super) beak: Colour,
    pub(super) legs: Colour,
    /// Where a marking may be lighter or darker than what it lies on: true for darker.
    dark_marks: [bool; 4],
}

/// The two ground colours and the texture's colour.
pub(super) type Ground = [Colour; 3];

impl Plumage {
    /// `vary` from 0, always the same colours, to 1, any.
    pub(super) fn draw(draw: &mut Draw, vary: f32) -> Self {
        let mut pick = |low: f32, high: f32| {
            let middle = (low + high) / 2.;
            middle + vary * (draw.range(low, high) - middle)
        };
        let (hue, saturation, value) = (pick(-0.42, 0.58), pick(0.1, 0.65), pick(0.3, 0.85));
        let body = hsv(hue, saturation, value);
        // wings darker or lighter than the body, never alike
        let (wing_hue, wing_step) = (pick(-0.1, 0.1), pick(-0.5, 0.1));
        let wing_value = if wing_step < -0.1 || value > 0.7 {
            value * (1. - 0.25 - 0.25 * (wing_step + 0.5))
        } else {
            (value * 1.35).min(1.)
        };
        let wing = hsv(hue + wing_hue, saturation * 0.9, wing_value);
        let (head_hue, head_mix) = (pick(-0.5, 0.5), pick(-0.6, 1.));
        let head = mix(
            body,
            hsv(hue + head_hue, saturation, (value * 0.9).max(0.3)),
            head_mix.max(0.) * 0.8,
        );
        let breast = mix(body, [0.95, 0.93, 0.88], pick(0.1, 0.75));
        let beak = hsv(pick(0.02, 0.16), pick(0.1, 0.9), pick(0.25, 0.95));
        let legs = hsv(pick(0.02, 0.14), pick(0.2, 0.7), pick(0.2, 0.75));
        let mut dark_marks = [true; 4];
        for dark in &mut dark_marks {
            *dark = !draw.chance(0.5 * vary);
        }
        Self {
            body,
            wing,
            head,
            breast,
            beak,
            legs,
            dark_marks,
        }
    }

    /// The colour of marking `which` on `under`.
    pub(super) fn mark(&self, which: usize, under: Colour) -> Colour {
        let dark = under.map(|v| 0.2 * v);
        let light = mix(under, [1., 0.98, 0.92], 0.85);
        let below = luminance(under) - luminance(dark);
        let above = luminance(light) - luminance(under);
        // a marking must show: the side asked for is taken where it stands out
        let wanted = if self.dark_marks[which] { below } else { above };
        let darker = if wanted > 0.3 {
            self.dark_marks[which]
        } else {
            below > above
        };
        if darker { dark } else { light }
    }
}

/// Surroundings from which `plumage` stands out.
pub(super) fn ground(draw: &mut Draw, plumage: &Plumage, vary: f32) -> Ground {
    let mut best = ([[0.; 3]; 3], f32::NEG_INFINITY);
    for _ in 0..12 {
        let mut pick = |low: f32, high: f32| {
            let middle = (low + high) / 2.;
            middle + vary * (draw.range(low, high) - middle)
        };
        let (hue, saturation, value) = (pick(-0.1, 0.9), pick(0., 0.5), pick(0.15, 0.95));
        let first = hsv(hue, saturation, value);
        let second = hsv(
            hue + pick(-0.12, 0.12),
            saturation,
            (value + pick(-0.25, 0.25)).clamp(0.05, 1.),
        );
        let third = hsv(
            hue + pick(-0.2, 0.2),
            saturation,
            (value + pick(-0.45, 0.45)).clamp(0.05, 1.),
        );
        let apart = [plumage.body, plumage.wing, plumage.head, plumage.beak]
            .into_iter()
            .map(|c| distance(c, first).min(distance(c, second)))
            .fold(f32::INFINITY, f32::min);
        if apart > best.1 {
            best = ([first, second, third], apart);
        }
        if apart > 0.35 {
            break;
        }
    }
    best.0
}

/// Hue in turns, any real; saturation and value in [0, 1].
pub(super) fn hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    [0., 2. / 3., 1. / 3.].map(|shift| {
        let ramp = ((hue + shift).rem_euclid(1.) * 6. - 3.).abs() - 1.;
        value * (1. - saturation * (1. - ramp.clamp(0., 1.)))
    })
}

pub(super) fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|c| a[c] + share * (b[c] - a[c]))
}

fn luminance([r, g, b]: Colour) -> f32 {
    0.3 * r + 0.59 * g + 0.11 * b
}

fn distance(a: Colour, b: Colour) -> f32 {
    let square: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    square.sqrt()
}
