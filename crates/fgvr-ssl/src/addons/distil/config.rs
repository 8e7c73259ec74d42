//! The choices of distillation, and their ranges.

use candle_core::{Result, bail};

use super::Distil;
use crate::bases::momentum::check_temperature;
use crate::{Addon, AddonConfig, AddonKind, AddonParts, MethodConfig};

/// What of the teacher the student is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum DistilForm {
    /// Its features, up to a linear map that is learnt along and dropped afterwards.
    #[default]
    Feature,
    /// How alike it finds the images of a batch, in the student's own features.
    Similarity,
    /// The sum of both losses.
    Both,
}

/// Choices of [`Distil`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct DistilConfig {
    /// Weight of the loss.
    pub weight: f64,
    /// What is compared.
    pub form: DistilForm,
    /// T of the student's similarities.
    pub temperature: f64,
    /// T of the teacher's: a lower one leaves but the nearest images.
    pub teacher_temperature: f64,
}

impl Default for DistilConfig {
    fn default() -> Self {
        Self {
            weight: 1.,
            form: DistilForm::Feature,
            temperature: 0.1,
            teacher_temperature: 0.1,
        }
    }
}

impl MethodConfig for DistilConfig {
    fn validate(&self) -> Result<()> {
        if !(self.weight >= 0. && self.weight.is_finite()) {
            bail!(
                "distil: weight is {}, expected a number of at least 0",
                self.weight
            );
        }
        check_temperature("distil", "temperature", self.temperature)?;
        check_temperature("distil", "teacher_temperature", self.teacher_temperature)
    }
}

impl AddonConfig for DistilConfig {
    fn kind(&self) -> AddonKind {
        AddonKind::DISTIL
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(Distil::new(self, parts)?))
    }
}
