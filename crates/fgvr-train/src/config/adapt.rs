//! Settings of an adaptation: `adapt.*`.

use fgvr_data::augment::{AugmentConfig, Interpolation, JitterStrength, moco_v2};
use fgvr_eval::BootstrapConfig;
use fgvr_perturb::{AdaptConfig, AdaptKind};
use fgvr_ssl::ResidualHeadConfig;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What is measured on photos that are held out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The share of photos whose other view is found first among all that are held out. Whitening raises it by design, so
    /// it cannot choose a ridge, and a gain of it is no proof.
    #[default]
    FoundFirst,
    /// The mean over photos of one over the rank of the other view.
    ReciprocalRank,
    /// The share of nearest photos that two halves of a photo have in common. Nothing is fitted to halves, and both find
    /// other photos than their own.
    Agreement,
}

fgvr_nn::named!(Measure, "In words." {
    FoundFirst = "other view found first",
    ReciprocalRank = "mean reciprocal rank of the other view",
    Agreement = "halves agree on neighbours",
});

/// How an adaptation is fitted and tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptSettings {
    /// Which covariance is divided out.
    pub kind: AdaptKind,
    /// This share of the mean variance of a channel is added to each variance.
    pub ridge: f64,
    /// Photos are mutual neighbours if each is among so many nearest of the other.
    pub neighbours: usize,
    /// Weight of the neighbours' covariance beside that of the views.
    pub neighbour_weight: f64,
    /// Decides which photos are held out, and draws views, bootstraps and the control's basis.
    pub seed: u64,
    /// Augmented views of each photo that the adaptation is fitted to.
    pub views: usize,
    /// Share of the training photos that the adaptation is tried on and not fitted to.
    pub held_out: f64,
    /// Photos that are held out at least, where that leaves as many to fit to; with fewer the answer is that nothing can
    /// be told.
    pub held_out_min: usize,
    /// Photos that are held out at most: each is compared with all others.
    pub held_out_max: usize,
    /// The measure that decides whether the gate opens.
    pub gate: Measure,
    /// Nearest photos that two halves of a held-out photo are to agree on.
    pub agreement: usize,
    /// Samples of a bootstrap.
    pub draws: usize,
    /// With training: weights between the start and the trained network that are tried too, each by its share of the trained
    /// network, above 0 and below 1.
    pub interpolate: Vec<f64>,
    /// How a view is made.
    pub augment: ViewAugment,
    /// A linear head that is trained on the adapted features of the views, and becomes part of the adaptation.
    pub head: ResidualHeadConfig,
}

impl Default for AdaptSettings {
    fn default() -> Self {
        let adaptation = AdaptConfig::default();
        Self {
            kind: adaptation.kind,
            ridge: adaptation.ridge,
            neighbours: adaptation.neighbours,
            neighbour_weight: adaptation.neighbour_weight,
            seed: adaptation.seed,
            views: 4,
            held_out: 0.1,
            held_out_min: 50,
            held_out_max: 2000,
            gate: Measure::default(),
            agreement: 10,
            draws: 2000,
            interpolate: Vec::new(),
            augment: ViewAugment::default(),
            head: ResidualHeadConfig::default(),
        }
    }
}

/// How the views are made that an adaptation is fitted to: no blur, no solarisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewAugment {
    /// Smallest and largest share of the photo's area that a view shows.
    pub crop_scale: [f64; 2],
    /// Smallest and largest ratio of width to height of that part.
    pub crop_ratio: [f64; 2],
    /// How the part is resized.
    pub interpolation: Interpolation,
    /// Probability of exchanging left and right.
    pub flip: f64,
    /// Probability of colour jitter.
    pub jitter: f64,
    /// How far colour jitter may go.
    pub jitter_strength: JitterStrength,
    /// Probability of leaving colour out.
    pub grayscale: f64,
}

impl Default for ViewAugment {
    fn default() -> Self {
        let usual = moco_v2();
        Self {
            crop_scale: usual.crop_scale,
            crop_ratio: usual.crop_ratio,
            interpolation: Interpolation::Bicubic,
            flip: usual.flip,
            jitter: usual.jitter,
            jitter_strength: usual.jitter_strength,
            grayscale: usual.grayscale,
        }
    }
}

impl ViewAugment {
    /// The same for what makes views.
    #[must_use]
    pub fn config(&self) -> AugmentConfig {
        AugmentConfig {
            crop_scale: self.crop_scale,
            crop_ratio: self.crop_ratio,
            flip: self.flip,
            jitter: self.jitter,
            jitter_strength: self.jitter_strength.clone(),
            grayscale: self.grayscale,
            blur: 0.,
            solarise: 0.,
            ..moco_v2()
        }
    }
}

impl AdaptSettings {
    /// What is fitted.
    #[must_use]
    pub fn config(&self) -> AdaptConfig {
        AdaptConfig {
            kind: self.kind,
            ridge: self.ridge,
            neighbours: self.neighbours,
            neighbour_weight: self.neighbour_weight,
            seed: self.seed,
        }
    }

    /// How intervals are made.
    #[must_use]
    pub fn bootstrap(&self) -> BootstrapConfig {
        BootstrapConfig {
            draws: self.draws,
            seed: self.seed,
            ..BootstrapConfig::default()
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// The first setting out of range, with the range.
    pub fn validate(&self) -> Result<()> {
        self.config().validate().map_err(|error| {
            let text = error.to_string();
            let (field, problem) = text.split_once(" is ").unwrap_or(("", &text));
            Error::config(format!("adapt.{field}"), format!("found {problem}"))
        })?;
        self.head.validate().map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            let line = line.strip_prefix("head: ").unwrap_or(line);
            let (field, problem) = line.split_once(" is ").unwrap_or(("", line));
            Error::config(format!("adapt.head.{field}"), format!("found {problem}"))
        })?;
        if self.views < 2 {
            return Err(Error::config(
                "adapt.views",
                format!(
                    "expected at least 2, since what two views of a photo differ by is what is divided out, found {}",
                    self.views
                ),
            ));
        }
        if !(0. ..=0.5).contains(&self.held_out) {
            return Err(Error::config(
                "adapt.held_out",
                format!("expected 0 to 0.5, found {}", self.held_out),
            ));
        }
        if let Some(share) = self
            .interpolate
            .iter()
            .find(|share| !(**share > 0. && **share < 1.))
        {
            return Err(Error::config(
                "adapt.interpolate",
                format!(
                    "expected shares above 0 and below 1, the start and the trained network being tried in any case, found {share}"
                ),
            ));
        }
        for (key, value) in [
            ("adapt.held_out_max", self.held_out_max),
            ("adapt.agreement", self.agreement),
            ("adapt.draws", self.draws),
        ] {
            if value == 0 {
                return Err(Error::config(key, "expected at least 1, found 0"));
            }
        }
        self.augment.config().validate().map_err(|error| {
            let text = error.to_string();
            let (name, problem) = text.split_once(" is ").unwrap_or(("augment", &text));
            let name = name.strip_prefix("augment.").unwrap_or(name);
            Error::config(format!("adapt.augment.{name}"), format!("found {problem}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_way_lie_between_both_ends() {
        let of = |shares: &[f64]| AdaptSettings {
            interpolate: shares.to_vec(),
            ..AdaptSettings::default()
        };
        for shares in [&[][..], &[0.5], &[0.25, 0.75]] {
            assert!(of(shares).validate().is_ok(), "{shares:?}");
        }
        for share in [0., 1., -0.5, f64::NAN] {
            let error = of(&[0.5, share]).validate().unwrap_err().to_string();
            for words in ["adapt.interpolate", "above 0 and below 1"] {
                assert!(error.contains(words), "{words}: {error}");
            }
        }
    }
}
