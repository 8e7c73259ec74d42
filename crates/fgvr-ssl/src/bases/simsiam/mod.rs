//! SimSiam: two views, one network, and no gradient through the target.

mod config;

use candle_core::Result;
use fgvr_nn::Encoder;

use crate::bases::Parts;
use crate::{
    ActivationFunction, Average, BaseKind, Comparison, MethodConfig, MlpConfig, Objective, Siamese,
};

pub use self::config::SimSiamConfig;

/// SimSiam (arXiv:2011.10566) as a [`Base`](crate::Base):
///
/// L = ½ D(g(z_1), sg z_2) + ½ D(g(z_2), sg z_1),  D(p, z) = -p·z / (|p| |z|),  z = p(f(x))
///
/// The projector has batch norm after each layer, the last without weight and bias; the predictor after
/// its hidden layer. -1 is the least loss.
///
/// # Differs
/// The projector's last layer has no bias, where the released code keeps one and does not train it: the
/// batch norm behind it takes it out again.
pub type SimSiam<E> = Siamese<E, SimSiamObjective>;

/// What makes a [`Siamese`] base a [`SimSiam`].
#[derive(Clone, Debug)]
pub struct SimSiamObjective(SimSiamConfig);

impl SimSiamObjective {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &SimSiamConfig) -> Result<Self> {
        cfg.validate()?;
        Ok(Self(cfg.clone()))
    }
}

impl Objective for SimSiamObjective {
    fn kind(&self) -> BaseKind {
        BaseKind::SIMSIAM
    }

    fn projector(&self) -> MlpConfig {
        MlpConfig {
            layers: self.0.projector_layers,
            hidden: self.0.dim,
            out: self.0.dim,
            norm: true,
            last_norm: self.0.last_norm,
            bias: [false, false],
            activation: ActivationFunction::Relu,
        }
    }

    fn predictor(&self) -> MlpConfig {
        MlpConfig {
            layers: 2,
            hidden: self.0.predictor_hidden,
            out: self.0.dim,
            norm: true,
            last_norm: false,
            bias: [false, true],
            activation: ActivationFunction::Relu,
        }
    }

    fn average(&self) -> Option<Average> {
        None
    }

    fn stops_gradient(&self) -> bool {
        self.0.stop_gradient
    }

    fn comparison(&self) -> Comparison {
        Comparison::HalfNegative
    }
}

impl<E: Encoder> SimSiam<E> {
    /// SimSiam over one encoder of `parts`.
    ///
    /// # Errors
    /// A configuration out of range, and what `parts` returns.
    pub fn new(cfg: &SimSiamConfig, parts: Parts<'_, E>) -> Result<Self> {
        Self::build(SimSiamObjective::new(cfg)?, parts)
    }
}
