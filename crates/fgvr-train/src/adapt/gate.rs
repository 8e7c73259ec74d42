//! Whether an adaptation helps, as far as photos without labels can tell.

use candle_core::{Device, Tensor};
use fgvr_eval::{Interval, class_bootstrap, neighbour_agreement, pair_ranks};
use fgvr_perturb::Adaptation;
use serde::Serialize;

use crate::Result;
use crate::config::{AdaptSettings, Measure};

/// What the gate says of an adaptation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It helps, as far as the measure goes.
    Open,
    /// It harms.
    Shut,
    /// It may do either.
    CannotTell,
}

fgvr_nn::named!(Answer, "In words." {
    Open = "open",
    Shut = "shut",
    CannotTell = "cannot tell",
});

/// One measure, of plain and of adapted features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Which.
    pub measure: Measure,
    /// The value for plain features, in [0, 1].
    pub plain: f64,
    /// The value for adapted features.
    pub adapted: f64,
    /// Adapted less plain, with its paired bootstrap interval over photos.
    pub gain: Interval,
}

/// The gate's answer and what it is made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// The answer.
    pub answer: Answer,
    /// Why, in one line.
    pub reason: String,
    /// Photos that were held out.
    pub photos: usize,
    /// The measure that decides.
    pub decides: Measure,
    /// All measures; none with fewer than two photos.
    pub measures: Vec<Measured>,
}

/// Features of photos that nothing is fitted to, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldOut {
    /// C.
    pub width: usize,
    /// Seen plainly, (n, C).
    pub plain: Vec<f32>,
    /// In two augmented views, each (n, C).
    pub views: [Vec<f32>; 2],
    /// By halves that share no pixel, each (n, C).
    pub halves: [Vec<f32>; 2],
}

impl HeldOut {
    /// n.
    #[must_use]
    pub fn photos(&self) -> usize {
        self.plain.len() / self.width.max(1)
    }

    /// Value of each measure for each photo, of features that `adaptation` transforms (with none, as they are). Halves
    /// look for their nearest among `gallery` (N, C).
    ///
    /// # Errors
    /// Features of different widths or numbers, or that are not finite.
    pub fn measure(
        &self,
        adaptation: Option<&Adaptation>,
        gallery: &[f32],
        agreement: usize,
    ) -> Result<[Vec<f64>; 3]> {
        let tensor = |features: &[f32]| -> Result<Tensor> {
            let seen = match adaptation {
                Some(adaptation) => adaptation.apply(features)?,
                None => features.to_vec(),
            };
            let shape = (seen.len() / self.width.max(1), self.width);
            Ok(Tensor::from_vec(seen, shape, &Device::Cpu)?)
        };
        let [first, second] = [tensor(&self.views[0])?, tensor(&self.views[1])?];
        // Each view asks for the other.
        let there = pair_ranks(&first, &second)?;
        let back = pair_ranks(&second, &first)?;
        let both = |of: fn(usize) -> f64| -> Vec<f64> {
            let pairs = there.iter().zip(&back);
            pairs.map(|(a, b)| (of(*a) + of(*b)) / 2.).collect()
        };
        let agreement = neighbour_agreement(
            &tensor(&self.halves[0])?,
            &tensor(&self.halves[1])?,
            &tensor(gallery)?,
            agreement,
        )?;
        Ok([
            both(|rank| f64::from(u8::from(rank == 1))),
            both(|rank| 1. / rank as f64),
            agreement,
        ])
    }
}

/// Asks whether `adaptation` helps: whether of photos `held_out` of its fit the measure `settings.gate`, such as that the other
/// view is found first, is higher than with plain features. Open where the interval of the gain lies above 0, shut where it
/// lies below, and cannot tell otherwise, or with fewer photos than `settings.held_out_min`. `gallery` (N, C) are plain features
/// of the photos that were fitted to.
///
/// # Errors
/// Features of different widths or numbers, or that are not finite.
pub fn gate(
    held_out: &HeldOut,
    gallery: &[f32],
    adaptation: &Adaptation,
    settings: &AdaptSettings,
) -> Result<Gate> {
    let photos = held_out.photos();
    if photos < 2 {
        return Ok(nobody(photos, settings));
    }
    let plain = held_out.measure(None, gallery, settings.agreement)?;
    let adapted = held_out.measure(Some(adaptation), gallery, settings.agreement)?;
    answer([("plain", plain), ("adapted", adapted)], photos, settings)
}

/// The answer for each measure's value of each photo before and after, which have names for people.
///
/// # Errors
/// None in practice.
pub(super) fn answer(
    [(before, plain), (after, adapted)]: [(&str, [Vec<f64>; 3]); 2],
    photos: usize,
    settings: &AdaptSettings,
) -> Result<Gate> {
    let few = photos < settings.held_out_min.max(2);
    let each: Vec<u32> = (0..).take(photos).collect();
    let mut measures = Vec::new();
    for (measure, (plain, adapted)) in Measure::ALL.into_iter().zip(plain.iter().zip(&adapted)) {
        let rows = class_bootstrap(&[plain, adapted], &each, &settings.bootstrap())?;
        if let [plain, adapted] = rows[..] {
            measures.push(Measured {
                measure,
                plain: plain.value.mean,
                adapted: adapted.value.mean,
                gain: adapted.gain,
            });
        }
    }
    let said = |of: &Measured, side: &str| said(of, [before, after], photos, side);
    let deciding = measures
        .iter()
        .find(|measured| measured.measure == settings.gate);
    let (answer, reason) = match deciding {
        Some(of) if !few && of.gain.low > 0. => (Answer::Open, said(of, "above 0")),
        Some(of) if !few && of.gain.high < 0. => (Answer::Shut, said(of, "below 0")),
        Some(of) if !few => (Answer::CannotTell, said(of, "with 0 inside")),
        _ => (Answer::CannotTell, too_few(photos, settings)),
    };
    Ok(Gate {
        answer,
        reason,
        photos,
        decides: settings.gate,
        measures,
    })
}

/// The answer where there is no photo to compare with.
pub(super) fn nobody(photos: usize, settings: &AdaptSettings) -> Gate {
    Gate {
        answer: Answer::CannotTell,
        reason: too_few(photos, settings),
        photos,
        decides: settings.gate,
        measures: Vec::new(),
    }
}

fn said(of: &Measured, [before, after]: [&str; 2], photos: usize, side: &str) -> String {
    let [plain, adapted, gain, low, high] = [
        of.plain,
        of.adapted,
        of.gain.mean,
        of.gain.low,
        of.gain.high,
    ]
    .map(|value| 100. * value);
    format!(
        "{} of {photos} held-out photos: {adapted:.1} % {after}, {plain:.1} % {before}, {gain:+.1} points [{low:+.1}, {high:+.1}], \
         {side}",
        of.measure.name()
    )
}

fn too_few(photos: usize, settings: &AdaptSettings) -> String {
    let least = settings.held_out_min.max(2);
    if settings.held_out <= 0. {
        return format!("no photo is held out with adapt.held_out=0, and the answer needs {least}");
    }
    format!(
        "{photos} photos are held out, and the answer needs {least}: give at least {} photos, or set adapt.held_out_min \
         lower",
        2 * least
    )
}

#[cfg(test)]
mod tests {
    use fgvr_perturb::{AdaptConfig, NuisanceCovariance};

    use super::*;

    /// A number in [-1, 1) that depends on what it is for alone.
    fn noise(index: usize, salt: usize) -> f32 {
        let word = (index * 2_654_435_761 + salt * 40_503 + 12_345) as u32;
        let word = (word ^ (word >> 15)).wrapping_mul(0x2c1b_3c6d);
        let word = (word ^ (word >> 12)).wrapping_mul(0x297a_2d39);
        (word >> 8) as f32 / (1 << 23) as f32 - 1.
    }

    const WIDTH: usize = 6;

    /// A photo's features: what it is in the first three channels, what a view adds in the others, times `strength`.
    fn row(photo: usize, view: usize, strength: f32) -> Vec<f32> {
        (0..WIDTH)
            .map(|channel| match channel {
                0..3 => noise(photo, channel) + 0.2 * noise(photo * 31 + view, channel + 70),
                _ => strength * noise(photo * 977 + view * 7919, channel),
            })
            .collect()
    }

    fn rows(photos: std::ops::Range<usize>, view: usize, strength: f32) -> Vec<f32> {
        photos
            .flat_map(|photo| row(photo, view, strength))
            .collect()
    }

    fn held_out(n: usize, strength: f32) -> HeldOut {
        let view = |view| rows(1000..1000 + n, view, strength);
        HeldOut {
            width: WIDTH,
            plain: view(0),
            views: [view(1), view(2)],
            halves: [view(3), view(4)],
        }
    }

    /// Fitted to photos whose views differ in the channels that a gate of another `strength` sees.
    fn fitted(strength: f32) -> (Adaptation, Vec<f32>) {
        let mut statistics = NuisanceCovariance::new(WIDTH).unwrap();
        let plain = rows(0..200, 0, strength);
        statistics.add_plain(&plain).unwrap();
        for photo in 0..200 {
            let views: Vec<f32> = (1..5).flat_map(|view| row(photo, view, strength)).collect();
            statistics.add_views(&views, 4).unwrap();
        }
        let cfg = AdaptConfig {
            ridge: 0.01,
            ..AdaptConfig::default()
        };
        (
            Adaptation::fit(&statistics, Some(&plain), &cfg).unwrap(),
            plain,
        )
    }

    #[test]
    fn it_opens_where_the_nuisance_is_divided_out_and_shuts_where_what_tells_photos_apart_is() {
        let settings = AdaptSettings::default();
        let (adaptation, gallery) = fitted(1.);
        let open = gate(&held_out(60, 1.), &gallery, &adaptation, &settings).unwrap();
        assert_eq!(open.answer, Answer::Open, "{open:?}");
        assert!(open.measures.iter().all(|m| m.gain.mean > 0.), "{open:?}");
        // Views that differ by nothing in the channels that this one takes for nuisance: it blows up the rest.
        let mut swapped = held_out(60, 1.);
        for set in &mut swapped.views {
            for row in set.chunks_exact_mut(WIDTH) {
                row.rotate_left(3);
            }
        }
        let shut = gate(&swapped, &gallery, &adaptation, &settings).unwrap();
        assert_eq!(shut.answer, Answer::Shut, "{shut:?}");
        let few = gate(&held_out(49, 1.), &gallery, &adaptation, &settings).unwrap();
        assert_eq!(few.answer, Answer::CannotTell);
        assert!(
            few.reason.contains("49 photos are held out"),
            "{}",
            few.reason
        );
        assert_eq!(few.measures.len(), 3);
        let none = gate(&held_out(1, 1.), &gallery, &adaptation, &settings).unwrap();
        assert_eq!((none.answer, none.measures.len()), (Answer::CannotTell, 0));
    }

    #[test]
    fn without_any_change_it_cannot_tell() {
        let mut statistics = NuisanceCovariance::new(WIDTH).unwrap();
        let plain = rows(0..200, 0, 1.);
        let flipped: Vec<f32> = plain.iter().map(|v| -v).collect();
        statistics.add_plain(&plain).unwrap();
        // So that the mean is 0 and taking it off changes nothing.
        statistics.add_plain(&flipped).unwrap();
        let cfg = AdaptConfig::of(fgvr_perturb::AdaptKind::Centred);
        let adaptation = Adaptation::fit(&statistics, None, &cfg).unwrap();
        let settings = AdaptSettings::default();
        let same = gate(&held_out(60, 1.), &plain, &adaptation, &settings).unwrap();
        assert_eq!(same.answer, Answer::CannotTell, "{same:?}");
        assert!(same.reason.contains("with 0 inside"), "{}", same.reason);
    }
}
