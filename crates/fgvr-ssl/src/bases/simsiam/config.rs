//! The choices of SimSiam, their ranges, and how it was published.

use candle_core::Result;

use super::SimSiam;
use crate::bases::recipe::{LearningRate, MOCO_V2_VIEWS, Optimizer, Recipe, Trunk};
use crate::bases::{BaseConfig, Parts, sizes};
use crate::{Base, BaseKind, MethodConfig};

/// Choices of [`SimSiam`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct SimSiamConfig {
    /// D, the width of the projector's layers and of its output.
    pub dim: usize,
    /// Width between the predictor's two layers: a bottleneck, a quarter of `dim`.
    pub predictor_hidden: usize,
    /// Number of the projector's layers: 3 in the paper.
    pub projector_layers: usize,
    /// Whether batch norm follows the projector's last layer, too (Table 3 of the paper: accuracy is
    /// higher with it, and there is no collapse without it).
    pub last_norm: bool,
    /// Whether the target is held constant. Without it the network finds a constant output that
    /// minimises the loss (section 4.1 of the paper); only for showing that.
    pub stop_gradient: bool,
}

impl Default for SimSiamConfig {
    /// The paper's.
    fn default() -> Self {
        Self {
            dim: 2048,
            predictor_hidden: 512,
            projector_layers: 3,
            last_norm: true,
            stop_gradient: true,
        }
    }
}

impl MethodConfig for SimSiamConfig {
    fn validate(&self) -> Result<()> {
        sizes(
            "simsiam",
            &[
                ("dim", self.dim),
                ("predictor_hidden", self.predictor_hidden),
                ("projector_layers", self.projector_layers),
            ],
        )
    }
}

impl BaseConfig for SimSiamConfig {
    fn kind(&self) -> BaseKind {
        BaseKind::SIMSIAM
    }

    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Base>> {
        Ok(Box::new(SimSiam::new(self, parts)?))
    }

    fn recipe(&self, _: Trunk) -> Option<Recipe> {
        Some(Recipe {
            source: "arXiv:2011.10566, section 3: ResNet-50, 100 epochs",
            optimizer: Optimizer::Sgd { momentum: 0.9 },
            learning_rate: LearningRate {
                per_256: 0.05,
                warm_up_epochs: 0,
                constant: &["head.predictor."],
            },
            weight_decay: [1e-4, 1e-4],
            decays_norm_and_bias: true,
            momentum: None,
            epochs: 100,
            batch: 512,
            views: MOCO_V2_VIEWS,
            local_crops: None,
        })
    }
}
