//! How strongly views are changed.

use super::JitterStrength;
use crate::Error;

/// Probabilities and strengths of a random view.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct AugmentConfig {
    /// Smallest and largest share of the photo's area that a view shows. By default 0.2 and 1.
    pub crop_scale: [f64; 2],
    /// Smallest and largest ratio of width to height of that part. By default 3/4 and 4/3.
    pub crop_ratio: [f64; 2],
    /// Probability of exchanging left and right. By default 0.5.
    pub flip: f64,
    /// Probability of colour jitter. By default 0.8.
    pub jitter: f64,
    /// How far colour jitter may go. By default 0.4, 0.4, 0.4 and 0.1.
    pub jitter_strength: JitterStrength,
    /// Probability of leaving colour out. By default 0.2.
    pub grayscale: f64,
    /// Probability of a blur. By default 0.5.
    pub blur: f64,
    /// Smallest and largest standard deviation of the blur, in pixels of the view. By default 0.1 and 2.
    pub blur_sigma: [f64; 2],
    /// Probability of solarisation. By default 0.
    pub solarise: f64,
    /// Values (in [0, 1]) from here on are inverted by solarisation. By default 0.5.
    pub solarise_threshold: f64,
}

impl Default for AugmentConfig {
    /// [`moco_v2`].
    fn default() -> Self {
        moco_v2()
    }
}

/// MoCo v2's augmentation (arXiv:2003.04297): crops of 0.2 to 1 of the area, jitter 0.4, 0.4, 0.4,
/// 0.1 with probability 0.8, greys 0.2, blur 0.5, flip 0.5.
#[must_use]
pub fn moco_v2() -> AugmentConfig {
    AugmentConfig {
        crop_scale: [0.2, 1.],
        crop_ratio: [3. / 4., 4. / 3.],
        flip: 0.5,
        jitter: 0.8,
        jitter_strength: JitterStrength::default(),
        grayscale: 0.2,
        blur: 0.5,
        blur_sigma: [0.1, 2.],
        solarise: 0.,
        solarise_threshold: 0.5,
    }
}

/// The two views of MoCo v3 (arXiv:2104.02057), which are BYOL's (arXiv:2006.07733), too: crops of 0.08 to 1
/// of the area and jitter 0.4, 0.4, 0.2, 0.1; the first is always blurred, the second with
/// probability 0.1, and solarised with 0.2.
#[must_use]
pub fn moco_v3_views() -> [AugmentConfig; 2] {
    let first = AugmentConfig {
        crop_scale: [0.08, 1.],
        jitter_strength: JitterStrength {
            saturation: 0.2,
            ..JitterStrength::default()
        },
        blur: 1.,
        ..moco_v2()
    };
    let second = AugmentConfig {
        blur: 0.1,
        solarise: 0.2,
        ..first.clone()
    };
    [first, second]
}

impl AugmentConfig {
    /// No change at all: the whole photo, whatever its ratio, resized.
    #[must_use]
    pub fn none() -> Self {
        Self {
            // A scale that fits no photo: the fallback, the largest part of an allowed ratio.
            crop_scale: [1., 1.],
            crop_ratio: [f64::MIN_POSITIVE, f64::MAX],
            flip: 0.,
            jitter: 0.,
            grayscale: 0.,
            blur: 0.,
            ..moco_v2()
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// The first setting outside its range, [`Error::Setting`].
    pub fn validate(&self) -> Result<(), Error> {
        interval("augment.crop_scale", self.crop_scale, f64::MIN_POSITIVE, 1.)?;
        interval(
            "augment.crop_ratio",
            self.crop_ratio,
            f64::MIN_POSITIVE,
            f64::MAX,
        )?;
        interval(
            "augment.blur_sigma",
            self.blur_sigma,
            f64::MIN_POSITIVE,
            f64::MAX,
        )?;
        for (name, value) in [
            ("augment.flip", self.flip),
            ("augment.jitter", self.jitter),
            ("augment.grayscale", self.grayscale),
            ("augment.blur", self.blur),
            ("augment.solarise", self.solarise),
            ("augment.solarise_threshold", self.solarise_threshold),
        ] {
            unit(name, value)?;
        }
        self.jitter_strength.validate()
    }
}

impl JitterStrength {
    /// Checks every range.
    ///
    /// # Errors
    /// The first strength below 0 or not finite, or a hue above 0.5: [`Error::Setting`].
    pub fn validate(&self) -> Result<(), Error> {
        for (name, value, most) in [
            ("jitter_strength.brightness", self.brightness, f64::MAX),
            ("jitter_strength.contrast", self.contrast, f64::MAX),
            ("jitter_strength.saturation", self.saturation, f64::MAX),
            ("jitter_strength.hue", self.hue, 0.5),
        ] {
            within(name, value, 0., most)?;
        }
        Ok(())
    }
}

/// `value` must be a probability.
pub(super) fn unit(setting: &'static str, value: f64) -> Result<(), Error> {
    within(setting, value, 0., 1.)
}

fn within(setting: &'static str, value: f64, least: f64, most: f64) -> Result<(), Error> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Setting {
        setting,
        found: value.to_string(),
        expected: if most == f64::MAX {
            format!("a finite number of at least {least}")
        } else {
            format!("a number in [{least}, {most}]")
        },
    })
}

fn interval(
    setting: &'static str,
    [low, high]: [f64; 2],
    least: f64,
    most: f64,
) -> Result<(), Error> {
    if least <= low && low <= high && high <= most {
        return Ok(());
    }
    Err(Error::Setting {
        setting,
        found: format!("[{low}, {high}]"),
        expected: if most == f64::MAX {
            "two finite numbers above 0, the smaller one first".to_owned()
        } else {
            format!("two numbers in (0, {most}], the smaller one first")
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        let [first, second] = moco_v3_views();
        for cfg in [moco_v2(), first, second, AugmentConfig::none()] {
            cfg.validate().unwrap();
        }
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let bad = |change: fn(&mut AugmentConfig)| {
            let mut cfg = moco_v2();
            change(&mut cfg);
            cfg.validate().unwrap_err().to_string()
        };
        for (message, name) in [
            (bad(|c| c.crop_scale = [0., 1.]), "crop_scale is [0, 1]"),
            (
                bad(|c| c.crop_scale = [0.9, 0.2]),
                "crop_scale is [0.9, 0.2]",
            ),
            (bad(|c| c.crop_ratio = [0.5, f64::INFINITY]), "crop_ratio"),
            (bad(|c| c.blur_sigma = [0., 1.]), "blur_sigma"),
            (bad(|c| c.flip = 1.5), "flip is 1.5"),
            (bad(|c| c.grayscale = f64::NAN), "grayscale is NaN"),
            (bad(|c| c.jitter_strength.hue = 0.6), "hue is 0.6"),
            (
                bad(|c| c.jitter_strength.contrast = -0.1),
                "contrast is -0.1",
            ),
        ] {
            assert!(message.contains(name), "{message}");
        }
    }
}
