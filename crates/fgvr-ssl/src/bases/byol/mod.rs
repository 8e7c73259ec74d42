//! BYOL: predicting what a slowly following network makes of the other view.

mod config;

use candle_core::Result;
use fgvr_nn::Encoder;

use crate::bases::Parts;
use crate::{
    ActivationFunction, Average, BaseKind, Comparison, MethodConfig, MlpConfig, Objective, Siamese,
};

pub use self::config::ByolConfig;

/// BYOL (arXiv:2006.07733) as a [`Base`](crate::Base), with q_i of the online and k_i of the target network:
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
        BaseKind::BYOL
    }

    fn projector(&self) -> MlpConfig {
        MlpConfig {
            layers: 2,
            hidden: self.0.hidden,
            out: self.0.dim,
            norm: true,
            last_norm: false,
            bias: [true, false],
            activation: ActivationFunction::Relu,
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

impl<E: Encoder> Byol<E> {
    /// BYOL over two encoders of `parts`.
    ///
    /// # Errors
    /// A configuration out of range, and what `parts` returns.
    pub fn new(cfg: &ByolConfig, parts: Parts<'_, E>) -> Result<Self> {
        Self::build(ByolObjective::new(cfg)?, parts)
    }
}
