//! BYOL: predicting what a slowly following network makes of the other view.

use candle_core::Result;
use fgvr_nn::Encoder;

use crate::momentum::check_momentum;
use crate::recipe::{BYOL_VIEWS, LearningRate, Optimizer, Recipe, Trunk};
use crate::registry::{BaseConfig, Parts, sizes};
use crate::siamese::{Average, Objective, Siamese};
use crate::{
    Activation, Base, BaseKind, Comparison, MlpConfig, MomentumSchedule, RunningStatistics,
};

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

/// BYOL (arXiv:2006.07733) as a [`Base`], with q_i of the online and k_i of the target network:
///
/// L = |q_1/|q_1| - k_2/|k_2||² + |q_2/|q_2| - k_1/|k_1||²
///
/// (Eq. 2, both directions; each term is 2 - 2 cos of the two.) Projector and predictor are Linear-BatchNorm-ReLU-Linear, the last without
/// bias. The target follows with m(t) = 1 - (1 - m) (cos(π t/T) + 1)/2 after step t.
///
/// # Differs
/// Linear layers start as PyTorch's, uniform within 1/sqrt(fan-in); the released code draws from a
/// truncated normal distribution.
pub type Byol<E> = Siamese<E, ByolObjective>;

/// What makes a [`Siamese`] base a [`Byol`].
#[derive(Clone, Debug)]
pub struct ByolObjective(ByolConfig);

impl ByolObjective {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &ByolConfig) -> Result<Self> {
        cfg.validate()?;
        Ok(Self(cfg.clone()))
    }
}

impl Objective for ByolObjective {
    fn kind(&self) -> BaseKind {
        BaseKind::Byol
    }

    fn projector(&self) -> MlpConfig {
        MlpConfig {
            layers: 2,
            hidden: self.0.hidden,
            out: self.0.dim,
            norm: true,
            last_norm: false,
            bias: [true, false],
            activation: Activation::Relu,
        }
    }

    fn predictor(&self) -> MlpConfig {
        self.projector()
    }

    fn average(&self) -> Option<Average> {
        Some(Average {
            momentum: self.0.momentum,
            schedule: self.0.momentum_schedule,
            statistics: self.0.running_statistics,
            updates: 1,
        })
    }

    fn comparison(&self) -> Comparison {
        Comparison::Distance
    }
}

impl BaseConfig for ByolConfig {
    fn validate(&self) -> Result<()> {
        sizes("byol", &[("dim", self.dim), ("hidden", self.hidden)])?;
        check_momentum("byol", self.momentum)
    }

    fn build<E: Encoder + Send + 'static>(&self, parts: Parts<'_, E>) -> Result<Box<dyn Base>> {
        Ok(Box::new(Byol::new(self, parts)?))
    }

    fn recipe(_: Trunk) -> Recipe {
        Recipe {
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
        }
    }
}

impl<E: Encoder> Byol<E> {
    /// BYOL over two encoders of `parts`.
    ///
    /// # Errors
    /// A configuration out of range, and what `parts` returns.
    pub fn new(cfg: &ByolConfig, parts: Parts<'_, E>) -> Result<Self> {
        Self::build(
            ByolObjective::new(cfg)?,
            parts.network,
            parts.seed,
            parts.run,
        )
    }
}
