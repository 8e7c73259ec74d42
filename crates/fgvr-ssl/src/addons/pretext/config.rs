//! The choices of the pretext tasks, and their ranges.

use candle_core::{Result, bail};

use super::Pretext;
use crate::{Addon, AddonConfig, AddonKind, AddonParts, MethodConfig};

/// What is to be told of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum PretextTask {
    /// By how many quarter turns it was rotated: four answers (RotNet, arXiv:1803.07728).
    #[default]
    Rotation,
    /// Which of `orders` orders its patches of a grid were put in (after jigsaw, arXiv:1603.09246, and the
    /// destruction of DCL, CVPR 2019).
    PatchShuffle,
}

/// Choices of [`Pretext`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct PretextConfig {
    /// The task.
    pub task: PretextTask,
    /// Weight of its cross-entropy.
    pub weight: f64,
    /// Patches along a side, of [`PretextTask::PatchShuffle`].
    pub grid: usize,
    /// Orders that are told apart, of [`PretextTask::PatchShuffle`]; the first is the image as it is.
    pub orders: usize,
}

impl Default for PretextConfig {
    fn default() -> Self {
        Self {
            task: PretextTask::Rotation,
            weight: 0.1,
            grid: 2,
            orders: 8,
        }
    }
}

impl PretextConfig {
    /// How many answers there are.
    #[must_use]
    pub fn answers(&self) -> usize {
        match self.task {
            PretextTask::Rotation => 4,
            PretextTask::PatchShuffle => self.orders,
        }
    }
}

impl MethodConfig for PretextConfig {
    fn validate(&self) -> Result<()> {
        if !(self.weight >= 0. && self.weight.is_finite()) {
            bail!(
                "pretext: weight is {}, expected a number of at least 0",
                self.weight
            );
        }
        if !(2..=16).contains(&self.grid) {
            bail!("pretext: grid is {}, expected 2 to 16", self.grid);
        }
        // Two by two patches have 24 orders.
        if !(2..=24).contains(&self.orders) {
            bail!("pretext: orders is {}, expected 2 to 24", self.orders);
        }
        Ok(())
    }
}

impl AddonConfig for PretextConfig {
    fn kind(&self) -> AddonKind {
        AddonKind::PRETEXT
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(Pretext::new(self, parts)?))
    }
}
