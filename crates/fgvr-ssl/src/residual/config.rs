//! The choices of a residual head, and their ranges.

use candle_core::{Result, bail};

use crate::Along;
use crate::bases::momentum::check_temperature;

/// Choices of [`ResidualHead`](super::ResidualHead).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct ResidualHeadConfig {
    /// Steps; 0 trains no head.
    pub steps: u64,
    /// Images a step, at most half of those that there are.
    pub batch: usize,
    /// Learning rate of Adam, along a cosine to 0.
    pub lr: f64,
    /// Share of Δ that a step takes away, times the learning rate: toward W = I.
    pub decay: f64,
    /// T of the contrast.
    pub temperature: f64,
    /// Share of the second views that are of a mutual neighbour, of images that have one; with any, neighbours are no negatives of
    /// each other.
    pub neighbours: f64,
    /// What noise is drawn along.
    pub along: Along,
    /// s, how strong the noise is: 1 is the nuisance itself.
    pub noise: f64,
    /// Weight of the pairs with noise beside those without; 0 draws no noise.
    pub noise_weight: f64,
    /// Draws batches, views, neighbours and noise.
    pub seed: u64,
}

impl Default for ResidualHeadConfig {
    fn default() -> Self {
        Self {
            steps: 0,
            batch: 256,
            lr: 3e-4,
            decay: 1.,
            temperature: 0.2,
            neighbours: 0.,
            along: Along::Nuisance,
            noise: 1.,
            noise_weight: 0.5,
            seed: 0,
        }
    }
}

impl ResidualHeadConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// The first choice out of range, with the range.
    pub fn validate(&self) -> Result<()> {
        if self.batch < 2 {
            bail!("head: batch is {}, expected at least 2", self.batch);
        }
        for (name, value) in [
            ("lr", self.lr),
            ("decay", self.decay),
            ("noise", self.noise),
            ("noise_weight", self.noise_weight),
        ] {
            if !(value >= 0. && value.is_finite()) {
                bail!("head: {name} is {value}, expected a number of at least 0");
            }
        }
        if !(0. ..=1.).contains(&self.neighbours) {
            bail!(
                "head: neighbours is {}, expected a share in [0, 1]",
                self.neighbours
            );
        }
        if self.along == Along::Channels {
            bail!(
                "head: along is \"channels\", expected nuisance, random-basis, between or random-channels: adapted features vary \
                 alike in all channels"
            );
        }
        check_temperature("head", "temperature", self.temperature)
    }
}
