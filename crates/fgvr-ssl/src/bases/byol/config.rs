//! The choices of BYOL, their ranges, and how it was published.

use candle_core::Result;

use super::Byol;
use crate::bases::momentum::check_momentum;
use crate::bases::recipe::{BYOL_VIEWS, LearningRate, Optimizer, Recipe, Trunk};
use crate::bases::{BaseConfig, Parts, sizes};
use crate::{Base, BaseKind, MethodConfig, MomentumSchedule, RunningStatistics};

/// Choices of [`Byol`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct ByolConfig {
    /// D, the width of predictions and targets.
    pub dim: usize,
    /// Width between the two layers of projector and predictor.
    pub hidden: usize,
    /// m of the moving average at the start.
    pub momentum: f64,
    /// Its course.
    pub momentum_schedule: MomentumSchedule,
    /// The target network's running statistics.
    pub running_statistics: RunningStatistics,
}

impl Default for ByolConfig {
    /// The paper's for 100 epochs.
    fn default() -> Self {
        Self {
            dim: 256,
            hidden: 4096,
            momentum: 0.99,
            momentum_schedule: MomentumSchedule::Cosine,
            running_statistics: RunningStatistics::Own,
        }
    }
}

impl MethodConfig for ByolConfig {
    fn validate(&self) -> Result<()> {
        sizes("byol", &[("dim", self.dim), ("hidden", self.hidden)])?;
        check_momentum("byol", self.momentum)
    }
}

impl BaseConfig for ByolConfig {
    fn kind(&self) -> BaseKind {
        BaseKind::BYOL
    }

    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Base>> {
        Ok(Box::new(Byol::new(self, parts)?))
    }

    fn recipe(&self, _: Trunk) -> Option<Recipe> {
        Some(Recipe {
            source: "arXiv:2006.07733, section 3.3: ResNet-50, 1000 epochs",
            optimizer: Optimizer::Lars {
                momentum: 0.9,
                trust: 1e-3,
            },
            learning_rate: LearningRate {
                per_256: 0.2,
                warm_up_epochs: 10,
                constant: &[],
            },
            weight_decay: [1.5e-6, 1.5e-6],
            decays_norm_and_bias: false,
            momentum: Some((0.996, MomentumSchedule::Cosine)),
            epochs: 1000,
            batch: 4096,
            views: BYOL_VIEWS,
            local_crops: None,
        })
    }
}
