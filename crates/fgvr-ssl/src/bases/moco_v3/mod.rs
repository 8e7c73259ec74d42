//! MoCo v3: InfoNCE within the batch, against the keys of a slowly following network.

mod config;

use candle_core::Result;
use fgvr_nn::Encoder;

use crate::bases::Parts;
use crate::{
    ActivationFunction, Average, BaseKind, Comparison, MethodConfig, MlpConfig, Objective, Siamese,
};

pub use self::config::MoCoV3Config;

/// The patch projection of a vision transformer, by the names that timm gives it.
const PATCH_PROJECTION: &str = "patch_embed.proj.";

/// MoCo v3 (arXiv:2104.02057) as a [`Base`](crate::Base), with q_i of the online and k_i of the momentum network,
/// both normalised:
///
/// L = ctr(q_1, k_2) + ctr(q_2, k_1),
/// ctr(q, k) = -2T mean over i of log( exp(q_i·k_i/T) / sum over j of exp(q_i·k_j/T) )
///
/// (Algorithm 1.) All layers of projector and predictor have batch norm, the last without weight and
/// bias.
///
/// # Differs
/// A key of another copy of the query's own image in the batch is no negative ([`crate::info_nce`]). After
/// step t the average takes m(t), as BYOL and DINO do, where the released code takes m(t + 1). The
/// released code's transformers have a fixed position embedding and a start of their own, which are the trunk's affair here.
pub type MoCoV3<E> = Siamese<E, MoCoV3Objective>;

/// What makes a [`Siamese`] base a [`MoCoV3`].
#[derive(Clone, Debug)]
pub struct MoCoV3Objective(MoCoV3Config);

impl MoCoV3Objective {
    /// With these choices.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(cfg: &MoCoV3Config) -> Result<Self> {
        cfg.validate()?;
        Ok(Self(cfg.clone()))
    }
}

impl Objective for MoCoV3Objective {
    fn kind(&self) -> BaseKind {
        BaseKind::MOCO_V3
    }

    fn projector(&self) -> MlpConfig {
        MlpConfig {
            layers: self.0.projector_layers,
            hidden: self.0.hidden,
            out: self.0.dim,
            norm: true,
            last_norm: true,
            bias: [false, false],
            activation: ActivationFunction::Relu,
        }
    }

    fn predictor(&self) -> MlpConfig {
        MlpConfig {
            layers: 2,
            ..self.projector()
        }
    }

    fn average(&self) -> Option<Average> {
        Some(Average {
            momentum: self.0.momentum,
            schedule: self.0.momentum_schedule,
            statistics: self.0.running_statistics,
            updates: self.0.updates_per_step,
        })
    }

    fn predictor_dropout(&self) -> f64 {
        self.0.predictor_dropout
    }

    fn trains(&self, encoder_variable: &str) -> bool {
        !(self.0.freeze_patch_projection && encoder_variable.starts_with(PATCH_PROJECTION))
    }

    fn comparison(&self) -> Comparison {
        Comparison::InBatch {
            temperature: self.0.temperature,
            factor: 2. * self.0.temperature,
        }
    }
}

impl<E: Encoder> MoCoV3<E> {
    /// MoCo v3 over two encoders of `parts`.
    ///
    /// # Errors
    /// A configuration out of range, and what `parts` returns.
    pub fn new(cfg: &MoCoV3Config, parts: Parts<'_, E>) -> Result<Self> {
        Self::build(MoCoV3Objective::new(cfg)?, parts)
    }
}
