//! The choices of DINO, their ranges, and how it was published.

use candle_core::{Result, bail};

use super::Dino;
use crate::bases::momentum::{check_momentum, check_temperature};
use crate::bases::recipe::{
    LearningRate, LocalCrops, Optimizer, Recipe, Trunk, ViewRecipe, with_crops,
};
use crate::bases::{BaseConfig, Parts, sizes};
use crate::{Base, BaseKind, MethodConfig, MomentumSchedule, RunningStatistics};

/// Choices of [`Dino`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct DinoConfig {
    /// K, the number of prototypes: 65,536 in the paper, fewer here for sets of a few thousand images.
    pub prototypes: usize,
    /// Width between the head's layers.
    pub hidden: usize,
    /// Width of what is compared with the prototypes.
    pub bottleneck: usize,
    /// Whether batch norm follows the head's hidden layers.
    pub head_norm: bool,
    /// τ_s, the student's temperature.
    pub student_temperature: f64,
    /// τ_t, the teacher's temperature once warm.
    pub teacher_temperature: f64,
    /// The teacher's temperature in the first epoch.
    pub teacher_temperature_start: f64,
    /// Epochs over which it goes linearly from there to `teacher_temperature`.
    pub teacher_temperature_epochs: u64,
    /// Share of the centre that is kept at each step.
    pub centre_momentum: f64,
    /// m of the teacher's moving average at the start.
    pub momentum: f64,
    /// Its course.
    pub momentum_schedule: MomentumSchedule,
    /// The teacher's running statistics.
    pub running_statistics: RunningStatistics,
    /// Epochs in which the prototypes stay as they are.
    pub frozen_prototypes_epochs: u64,
    /// Small crops given with each pair of views.
    pub local_crops: usize,
}

impl Default for DinoConfig {
    fn default() -> Self {
        Self {
            prototypes: 4096,
            hidden: 2048,
            bottleneck: 256,
            head_norm: false,
            student_temperature: 0.1,
            teacher_temperature: 0.04,
            teacher_temperature_start: 0.04,
            teacher_temperature_epochs: 0,
            centre_momentum: 0.9,
            momentum: 0.996,
            momentum_schedule: MomentumSchedule::Cosine,
            running_statistics: RunningStatistics::Own,
            frozen_prototypes_epochs: 1,
            // The eight of the paper cost more than the rest of a step: its preset asks for them.
            local_crops: 0,
        }
    }
}

impl MethodConfig for DinoConfig {
    fn validate(&self) -> Result<()> {
        sizes(
            "dino",
            &[
                ("prototypes", self.prototypes),
                ("hidden", self.hidden),
                ("bottleneck", self.bottleneck),
            ],
        )?;
        for (name, temperature) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature", self.teacher_temperature),
            ("teacher_temperature_start", self.teacher_temperature_start),
        ] {
            check_temperature("dino", name, temperature)?;
        }
        if self.local_crops > 64 {
            bail!(
                "dino: local_crops is {}, expected 0 to 64",
                self.local_crops
            );
        }
        if !(0. ..1.).contains(&self.centre_momentum) {
            bail!(
                "dino: centre_momentum is {}, expected 0 or more and less than 1; at 1 there is no centring, try 0.9",
                self.centre_momentum
            );
        }
        check_momentum("dino", self.momentum)
    }
}

impl BaseConfig for DinoConfig {
    fn kind(&self) -> BaseKind {
        BaseKind::DINO
    }

    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Base>> {
        Ok(Box::new(Dino::new(self, parts)?))
    }

    fn local_crops(&self) -> usize {
        self.local_crops
    }

    fn recipe(&self, trunk: Trunk) -> Option<Recipe> {
        let crops = |crop_scale| LocalCrops {
            count: 8,
            side_at_224: 96,
            view: ViewRecipe {
                blur: 0.5,
                ..with_crops(crop_scale)[0]
            },
        };
        let vit = Recipe {
            source: "arXiv:2104.14294 and the defaults of the released main_dino.py: ViT-S/16, 100 epochs; dino.prototypes = 65536, gradients of each variable clipped to a norm of 3",
            optimizer: Optimizer::AdamW {
                betas: [0.9, 0.999],
            },
            learning_rate: LearningRate {
                per_256: 5e-4,
                warm_up_epochs: 10,
                constant: &[],
            },
            weight_decay: [0.04, 0.4],
            decays_norm_and_bias: false,
            momentum: Some((0.996, MomentumSchedule::Cosine)),
            epochs: 100,
            batch: 512,
            views: with_crops([0.4, 1.]),
            local_crops: Some(crops([0.05, 0.4])),
        };
        Some(match trunk {
            Trunk::Vit => vit,
            Trunk::ResNet => Recipe {
                source: "the released README of DINO: ResNet-50, 100 epochs, SGD; dino.prototypes = 65536, gradients of each variable clipped to a norm of 3",
                optimizer: Optimizer::Sgd { momentum: 0.9 },
                weight_decay: [1e-4, 1e-4],
                views: with_crops([0.14, 1.]),
                local_crops: Some(crops([0.05, 0.14])),
                ..vit
            },
        })
    }
}
