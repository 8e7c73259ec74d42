//! The choices of MoCo v2, their ranges, and how it was published.

use std::cmp::Ordering;
use std::collections::HashMap;

use candle_core::{Result, Tensor, bail};
use fgvr_nn::Parameters;

use super::{KeyQueue, MoCoV2};
use crate::bases::momentum::{check_momentum, check_temperature};
use crate::bases::recipe::{LearningRate, MOCO_V2_VIEWS, Optimizer, Recipe, Trunk};
use crate::bases::{BaseConfig, Parts, Renumber, TrainingSet, sizes};
use crate::step::state::under;
use crate::{Base, BaseKind, MethodConfig, MomentumSchedule, RunningStatistics, TrainedOn};

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

impl MoCoConfig {
    /// The queues' sizes, under the names by which they are chosen and saved.
    fn queues(&mut self) -> [(&'static str, &mut usize); 2] {
        [
            ("queue", &mut self.queue),
            ("pair_queue", &mut self.pair_queue),
        ]
    }
}

impl MethodConfig for MoCoConfig {
    fn fits(&self, on: &TrainedOn<'_>) -> Result<()> {
        if self.queue < on.batch {
            bail!(
                "moco: queue is {}, expected at least the {} images of a step",
                self.queue,
                on.batch
            );
        }
        Ok(())
    }

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
}

impl BaseConfig for MoCoConfig {
    fn kind(&self) -> BaseKind {
        BaseKind::MOCO_V2
    }

    fn build(&self, parts: Parts<'_>) -> Result<Box<dyn Base>> {
        let (online, key) = ((parts.network)()?, (parts.network)()?);
        let head = Parameters::new(parts.seed);
        Ok(Box::new(MoCoV2::new(online, key, head, self)?))
    }

    fn fit_to(&mut self, set: TrainingSet) -> Vec<String> {
        self.seed = set.seed;
        let mut lines = Vec::new();
        for (name, queue) in self.queues() {
            // At most half the set: older keys of an image are no negatives of it. A step's keys must fit.
            let fitted = (*queue).min(set.images / 2).max(set.batch);
            let why = match fitted.cmp(queue) {
                Ordering::Less => format!("half of the {} training images", set.images),
                Ordering::Greater => "the images of a step".to_owned(),
                Ordering::Equal => continue,
            };
            lines.push(format!("moco.{name}: {fitted} rather than {queue}, {why}"));
            *queue = fitted;
        }
        lines
    }

    fn fit_to_state(&mut self, state: &HashMap<String, Tensor>) {
        for (name, queue) in self.queues() {
            if let Some(images) = state.get(&format!("{name}.images")) {
                *queue = images.elem_count();
            }
        }
    }

    fn renumber(
        &self,
        state: &mut HashMap<String, Tensor>,
        number: &Renumber<'_>,
    ) -> Result<Vec<String>> {
        let held = |position: Option<&Tensor>| -> Result<i64> {
            let position = position.map(Tensor::to_vec1::<i64>).transpose()?;
            Ok(position.and_then(|at| at.get(1).copied()).unwrap_or(0))
        };
        let mut lines = Vec::new();
        for (name, capacity) in self.clone().queues() {
            let before = under(state, name);
            // A checkpoint of another base; that it does not fit is said when it is loaded.
            if before.is_empty() {
                continue;
            }
            let now = KeyQueue::renumbered(&before, *capacity, number)?;
            let [had, has] = [held(before.get("position"))?, held(now.get("position"))?];
            lines.push(match has {
                0 => format!("moco.{name}: begins empty"),
                has => format!(
                    "moco.{name}: goes on with {has} of {had} keys, those of photos that are still trained on"
                ),
            });
            for (part, tensor) in now {
                state.insert(format!("{name}.{part}"), tensor);
            }
        }
        Ok(lines)
    }

    fn recipe(&self, _: Trunk) -> Option<Recipe> {
        Some(Recipe {
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
        })
    }
}
