//! The choices of MoCo v3, their ranges, and how it was published.

use candle_core::{Result, bail};

use super::MoCoV3;
use crate::bases::momentum::{check_momentum, check_temperature};
use crate::bases::recipe::{
    BYOL_VIEWS, LearningRate, MOCO_V3_RESNET_VIEWS, Optimizer, Recipe, Trunk,
};
use crate::bases::{BaseConfig, Parts, sizes};
use crate::{Base, BaseKind, MethodConfig, MomentumSchedule, RunningStatistics};

/// Choices of [`MoCoV3`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct MoCoV3Config {
    /// D, the width of queries and keys.
    pub dim: usize,
    /// Width between the layers of projector and predictor.
    pub hidden: usize,
    /// Number of the projector's layers: 3 in the paper; 2 in the released code for a ResNet. With 0 there
    /// is no projector: keys are the momentum encoder's features, queries the predictor's of the
    /// online ones, both of the trunk's width whatever `dim` is.
    pub projector_layers: usize,
    /// T of InfoNCE: 0.2 in the paper; 1 in the released code for a ResNet.
    pub temperature: f64,
    /// m of the moving average at the start.
    pub momentum: f64,
    /// Its course.
    pub momentum_schedule: MomentumSchedule,
    /// How often the average is taken after each step: n times m are once m^n. 1 in MoCo v3; 4 in the
    /// released code of LoDisc (arXiv:2403.04066), by repetition.
    pub updates_per_step: u32,
    /// Share of the values in front of the predictor's last layer that are dropped in training: 0 in
    /// MoCo v3; 0.2 in the released code of LoDisc.
    pub predictor_dropout: f64,
    /// The momentum network's running statistics.
    pub running_statistics: RunningStatistics,
    /// Whether a vision transformer's patch projection stays as it was initialised, which keeps the
    /// training of a transformer stable (section 4 of the paper). A ResNet has none.
    pub freeze_patch_projection: bool,
}

impl Default for MoCoV3Config {
    /// The paper's for a vision transformer.
    fn default() -> Self {
        Self {
            dim: 256,
            hidden: 4096,
            projector_layers: 3,
            temperature: 0.2,
            momentum: 0.99,
            momentum_schedule: MomentumSchedule::Cosine,
            updates_per_step: 1,
            predictor_dropout: 0.,
            running_statistics: RunningStatistics::Own,
            freeze_patch_projection: true,
        }
    }
}

impl MethodConfig for MoCoV3Config {
    fn validate(&self) -> Result<()> {
        sizes(
            "moco-v3",
            &[
                ("dim", self.dim),
                ("hidden", self.hidden),
                ("updates_per_step", self.updates_per_step as usize),
            ],
        )?;
        if !(0. ..1.).contains(&self.predictor_dropout) {
            bail!(
                "moco-v3: predictor_dropout is {}, expected 0 or more and less than 1",
                self.predictor_dropout
            );
        }
        check_temperature("moco-v3", "temperature", self.temperature)?;
        check_momentum("moco-v3", self.momentum)
    }
}

impl BaseConfig for MoCoV3Config {
    fn kind(&self) -> BaseKind {
        BaseKind::MOCO_V3
    }

    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Base>> {
        Ok(Box::new(MoCoV3::new(self, parts)?))
    }

    fn recipe(&self, trunk: Trunk) -> Option<Recipe> {
        let vit = Recipe {
            source: "arXiv:2104.02057, section 4, and the released CONFIG.md: ViT-S and ViT-B, 300 epochs",
            optimizer: Optimizer::AdamW {
                betas: [0.9, 0.999],
            },
            learning_rate: LearningRate {
                per_256: 1.5e-4,
                warm_up_epochs: 40,
                constant: &[],
            },
            weight_decay: [0.1, 0.1],
            decays_norm_and_bias: true,
            momentum: Some((0.99, MomentumSchedule::Cosine)),
            epochs: 300,
            batch: 4096,
            views: BYOL_VIEWS,
            local_crops: None,
        };
        Some(match trunk {
            Trunk::Vit => vit,
            Trunk::ResNet => Recipe {
                source: "the released CONFIG.md of MoCo v3: ResNet-50, 300 epochs; moco_v3.temperature = 1, moco_v3.projector_layers = 2",
                optimizer: Optimizer::Lars {
                    momentum: 0.9,
                    trust: 1e-3,
                },
                learning_rate: LearningRate {
                    per_256: 0.3,
                    warm_up_epochs: 10,
                    constant: &[],
                },
                weight_decay: [1e-6, 1e-6],
                decays_norm_and_bias: false,
                views: MOCO_V3_RESNET_VIEWS,
                ..vit
            },
        })
    }
}
