//! SimSiam: two views, one network, and no gradient through the target.

use candle_core::Result;
use fgvr_nn::Encoder;

use crate::recipe::{LearningRate, MOCO_V2_VIEWS, Optimizer, Recipe, Trunk};
use crate::registry::{BaseConfig, Parts, sizes};
use crate::siamese::{Average, Objective, Siamese};
use crate::{Activation, Base, BaseKind, Comparison, MlpConfig};

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

/// SimSiam (arXiv:2011.10566) as a [`Base`]:
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
        BaseKind::SimSiam
    }

    fn projector(&self) -> MlpConfig {
        MlpConfig {
            layers: self.0.projector_layers,
            hidden: self.0.dim,
            out: self.0.dim,
            norm: true,
            last_norm: self.0.last_norm,
            bias: [false, false],
            activation: Activation::Relu,
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
            activation: Activation::Relu,
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

impl BaseConfig for SimSiamConfig {
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

    fn build<E: Encoder + Send + 'static>(&self, parts: Parts<'_, E>) -> Result<Box<dyn Base>> {
        Ok(Box::new(SimSiam::new(self, parts)?))
    }

    fn recipe(_: Trunk) -> Recipe {
        Recipe {
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
        }
    }
}

impl<E: Encoder> SimSiam<E> {
    /// SimSiam over one encoder of `parts`.
    ///
    /// # Errors
    /// A configuration out of range, and what `parts` returns.
    pub fn new(cfg: &SimSiamConfig, parts: Parts<'_, E>) -> Result<Self> {
        Self::build(
            SimSiamObjective::new(cfg)?,
            parts.network,
            parts.seed,
            parts.run,
        )
    }
}
