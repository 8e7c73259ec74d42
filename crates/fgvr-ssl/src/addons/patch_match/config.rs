//! The choices of patch match, and their ranges.

use candle_core::{Result, bail};

use super::PatchMatch;
use crate::bases::momentum::check_temperature;
use crate::{Addon, AddonConfig, AddonKind, AddonParts, MethodConfig, TrainedOn};

/// Choices of [`PatchMatch`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct PatchMatchConfig {
    /// Weight of the loss.
    pub weight: f64,
    /// T of InfoNCE.
    pub temperature: f64,
    /// D, the width of the projections.
    pub dim: usize,
    /// Width between the projector's two layers; that of the encoder where absent.
    pub hidden: Option<usize>,
    /// At most this many places of an image are compared, drawn by (seed, step, image); the match is
    /// sought among all. The cost grows with the square of batch times places.
    pub places: usize,
}

impl Default for PatchMatchConfig {
    fn default() -> Self {
        Self {
            weight: 0.5,
            temperature: 0.2,
            dim: 128,
            hidden: None,
            places: 49,
        }
    }
}

impl MethodConfig for PatchMatchConfig {
    fn fits(&self, on: &TrainedOn<'_>) -> Result<()> {
        if on.pools_both {
            bail!(
                "patch match: places have half as many channels as features of encoder.pooling = both; expected class-token or patch-mean"
            );
        }
        Ok(())
    }

    fn validate(&self) -> Result<()> {
        if !(self.weight >= 0. && self.weight.is_finite()) {
            bail!(
                "patch match: weight is {}, expected a number of at least 0",
                self.weight
            );
        }
        for (name, size) in [
            ("dim", self.dim),
            ("hidden", self.hidden.unwrap_or(1)),
            ("places", self.places),
        ] {
            if size == 0 {
                bail!("patch match: {name} is 0, expected at least 1");
            }
        }
        check_temperature("patch match", "temperature", self.temperature)
    }
}

impl AddonConfig for PatchMatchConfig {
    fn kind(&self) -> AddonKind {
        AddonKind::PATCH_MATCH
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(PatchMatch::new(self, parts)?))
    }
}
