//! The choices of MoCo v2, their ranges, and how it was published.

use candle_core::Result;
use fgvr_nn::{Encoder, Parameters};

use super::MoCoV2;
use crate::bases::momentum::{check_momentum, check_temperature};
use crate::bases::recipe::{LearningRate, MOCO_V2_VIEWS, Optimizer, Recipe, Trunk};
use crate::bases::{BaseConfig, Parts, sizes};
use crate::{Base, MomentumSchedule, RunningStatistics};

/// Choices of MoCo v2. The defaults are those of a few thousand images, not of ImageNet.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct MoCoConfig {
    /// D, the width of queries and keys.
    pub dim: usize,
    /// Width between the head's two layers; that of the encoder where absent.
    pub hidden: Option<usize>,
    /// m of the moving average.
    pub momentum: f64,
    /// T of InfoNCE.
    pub temperature: f64,
    /// Keys of real images kept. At most half the images of the set is sensible.
    pub queue: usize,
    /// Keys of generated images kept.
    pub pair_queue: usize,
    /// Sub-batches over which the key encoder takes its batch statistics.
    pub groups: usize,
    /// The key encoder's running statistics.
    pub running_statistics: RunningStatistics,
    /// Seed of the shuffles.
    pub seed: u64,
}

impl Default for MoCoConfig {
    fn default() -> Self {
        Self {
            dim: 256,
            hidden: None,
            momentum: 0.999,
            temperature: 0.2,
            queue: 4096,
            pair_queue: 4096,
            groups: 4,
            running_statistics: RunningStatistics::Own,
            seed: 0,
        }
    }
}

impl BaseConfig for MoCoConfig {
    fn validate(&self) -> Result<()> {
        sizes(
            "moco",
            &[
                ("dim", self.dim),
                ("hidden", self.hidden.unwrap_or(1)),
                ("queue", self.queue),
                ("pair_queue", self.pair_queue),
                ("groups", self.groups),
            ],
        )?;
        check_momentum("moco", self.momentum)?;
        check_temperature("moco", "temperature", self.temperature)
    }

    fn build<E: Encoder + Send + 'static>(&self, parts: Parts<'_, E>) -> Result<Box<dyn Base>> {
        let (online, key) = ((parts.network)()?, (parts.network)()?);
        let head = Parameters::new(parts.seed);
        Ok(Box::new(MoCoV2::new(online, key, head, self)?))
    }

    fn recipe(_: Trunk) -> Recipe {
        Recipe {
            source: "arXiv:2003.04297: ResNet-50, 200 epochs; moco.queue = 65536",
            optimizer: Optimizer::Sgd { momentum: 0.9 },
            learning_rate: LearningRate {
                per_256: 0.03,
                warm_up_epochs: 0,
                constant: &[],
            },
            weight_decay: [1e-4, 1e-4],
            decays_norm_and_bias: true,
            momentum: Some((0.999, MomentumSchedule::Constant)),
            epochs: 200,
            batch: 256,
            views: MOCO_V2_VIEWS,
            local_crops: None,
        }
    }
}
