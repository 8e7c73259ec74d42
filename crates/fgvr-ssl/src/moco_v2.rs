//! MoCo v2 on one device: a query encoder, its moving average as key encoder, a queue of keys.

mod on_device;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};

use fgvr_nn::cuda::Array;

use crate::base::gradient_at;
use crate::momentum::{check_momentum, check_temperature};
use crate::on_device::BaseOnDevice;
use crate::queue::negatives;
use crate::recipe::{LearningRate, MOCO_V2_VIEWS, Optimizer, Recipe, Trunk};
use crate::registry::{BaseConfig, Parts, sizes};
use crate::state::{check, counters, of_stores, prefixed, take, trainable, under, words};
use crate::{
    Base, BaseKind, Between, Branch, KeyQueue, MomentumSchedule, Network, Pass, ProjectionHead,
    RunningStatistics, Shuffle, Views, info_nce, momentum_update,
};

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

/// Keys of this step and their images, a pair for each pass; they enter the queue only after it.
type Pending = Vec<(Tensor, Vec<u32>)>;

/// The same on a device.
type PendingThere = Vec<(Array, Vec<u32>)>;

/// MoCo v2 (arXiv:2003.04297) as a [`Base`].
///
/// # Differs
/// Shuffled batch norm across GPUs becomes split batch norm on one device: the key batch is shuffled by
/// a permutation of (seed, step), takes its statistics over sub-batches, and is put back in order.
/// The queue starts empty rather than random, and keys of the query's own image are no negatives
/// ([`info_nce`]). The average is taken after the optimiser's step, not before the next forward pass,
/// which is the same thing. The head's weights start as candle's `linear` does: normal, variance 2/fan-in.
pub struct MoCoV2<E> {
    cfg: MoCoConfig,
    online: Network<E>,
    head: ProjectionHead,
    head_parameters: Parameters,
    key: Network<E>,
    key_head: ProjectionHead,
    key_head_parameters: Parameters,
    queue: KeyQueue,
    pair_queue: KeyQueue,
    step: u64,
    pending: Pending,
    pending_pair: Pending,
    pending_there: PendingThere,
    pending_pair_there: PendingThere,
}

/// Which shuffle of a step.
#[derive(Clone, Copy)]
enum Keys {
    Real = 0,
    Generated = 1,
    Other = 2,
}

impl<E: Encoder> MoCoV2<E> {
    /// MoCo over `online`; `key` is an encoder of the same configuration over variables of its own,
    /// which are overwritten by those of `online`. The projection head is made in `head`, whose seed
    /// decides its initial values.
    ///
    /// # Errors
    /// Encoders whose variables differ in name or shape, or a configuration out of range.
    pub fn new(
        online: Network<E>,
        key: Network<E>,
        head: Parameters,
        cfg: &MoCoConfig,
    ) -> Result<Self> {
        cfg.validate()?;
        let width = online.encoder.width();
        let hidden = cfg.hidden.unwrap_or(width);
        let make = |parameters: &Parameters| {
            let vb = parameters.builder(DType::F32, &Device::Cpu);
            ProjectionHead::new(width, hidden, cfg.dim, vb)
        };
        let key_head_parameters = Parameters::new(0);
        let (head_layers, key_head) = (make(&head)?, make(&key_head_parameters)?);
        // Also the check that names and shapes agree, in both directions.
        momentum_update(
            &online.parameters,
            &key.parameters,
            0.,
            RunningStatistics::Copied,
        )?;
        momentum_update(&head, &key_head_parameters, 0., RunningStatistics::Copied)?;
        Ok(Self {
            online,
            head: head_layers,
            head_parameters: head,
            key,
            key_head,
            key_head_parameters,
            queue: KeyQueue::new(cfg.queue, cfg.dim)?,
            pair_queue: KeyQueue::new(cfg.pair_queue, cfg.dim)?,
            step: 0,
            pending: Pending::new(),
            pending_pair: Pending::new(),
            pending_there: PendingThere::new(),
            pending_pair_there: PendingThere::new(),
            cfg: cfg.clone(),
        })
    }

    /// The online network.
    #[must_use]
    pub fn online(&self) -> &Network<E> {
        &self.online
    }

    /// The key network.
    #[must_use]
    pub fn key(&self) -> &Network<E> {
        &self.key
    }

    /// The keys of real images and of generated ones.
    #[must_use]
    pub fn queues(&self) -> [&KeyQueue; 2] {
        [&self.queue, &self.pair_queue]
    }

    /// Features and keys of `images`, in their order, by the key network. Without a way back.
    fn keys(&self, images: &Tensor, which: Keys) -> Result<(Features, Tensor)> {
        let n = images.dim(0)?;
        let norm = NormMode::Split {
            groups: self.groups(n),
            update: matches!(which, Keys::Real)
                && self.cfg.running_statistics == RunningStatistics::Own,
        };
        let shuffle = Shuffle::new(n, [self.cfg.seed, self.step, which as u64, 0])?;
        let features = self.key.encoder.features(&shuffle.apply(images)?, norm)?;
        let features = Features {
            map: shuffle.undo(&features.map)?.detach(),
            pooled: shuffle.undo(&features.pooled)?.detach(),
        };
        let keys = self.key_head.forward(&features.pooled)?.detach();
        Ok((features, keys))
    }

    /// Refuses a queue that a batch overruns: keys would leave it before any query met them.
    fn enough(&self, field: &str, queue: &KeyQueue, images: &[u32]) -> Result<()> {
        let (capacity, n) = (queue.capacity(), images.len());
        if capacity < n {
            bail!(
                "moco: {field} holds {capacity} keys, expected at least the {n} of a batch; raise moco.{field} to {n} or more, or use smaller batches"
            );
        }
        Ok(())
    }

    /// The largest number of equal sub-batches, of two images or more each, up to the configured one.
    fn groups(&self, n: usize) -> usize {
        (1..=self.cfg.groups.min(n / 2))
            .rev()
            .find(|groups| n.is_multiple_of(*groups))
            .unwrap_or(1)
    }

    fn pass(&self, [first, second]: [&Tensor; 2], images: &[u32], which: Keys) -> Result<Pass> {
        let (norm, queue) = match which {
            Keys::Real => (NormMode::Train, &self.queue),
            Keys::Generated => (NormMode::NoUpdate, &self.pair_queue),
            Keys::Other => (NormMode::NoUpdate, &self.queue),
        };
        self.fetch_heads()?;
        let (features, tape) = self.online.encoder.forward_train(first, norm)?;
        let query = self.head.forward(&features.pooled)?;
        let (key_features, keys) = self.keys(second, which)?;
        let held = queue.keys()?;
        let found = info_nce(
            &query,
            &keys,
            images,
            negatives(&held),
            self.cfg.temperature,
        )?;
        Ok(Pass {
            branches: vec![Branch {
                features,
                tape,
                view: 0,
            }],
            loss: found.loss,
            query: query.detach(),
            queries: vec![query],
            keys,
            key_pooled: key_features.pooled,
            key_map: Some(key_features.map),
            top1: found.top1,
            positive: found.positive,
            negative: found.negative,
        })
    }

    /// Brings heads that live on a device back, for losses on the CPU.
    fn fetch_heads(&self) -> Result<()> {
        self.head_parameters.fetch()?;
        self.key_head_parameters.fetch()
    }

    /// The four stores of variables and their prefixes.
    fn stores(&self) -> [(&'static str, &Parameters); 4] {
        [
            ("encoder", &self.online.parameters),
            ("head", &self.head_parameters),
            ("key_encoder", &self.key.parameters),
            ("key_head", &self.key_head_parameters),
        ]
    }
}

impl<E: Encoder + Send> Base for MoCoV2<E> {
    fn kind(&self) -> BaseKind {
        BaseKind::MoCoV2
    }

    fn on_device(&mut self) -> Option<&mut dyn BaseOnDevice> {
        self.place()?;
        Some(self)
    }

    fn real(&mut self, views: Views<'_>, images: &[u32]) -> Result<Pass> {
        self.enough("queue", &self.queue, images)?;
        let pass = self.pass(views.only_global("moco")?, images, Keys::Real)?;
        self.pending.push((pass.keys.clone(), images.to_vec()));
        Ok(pass)
    }

    fn generated(&mut self, pair: [&Tensor; 2], images: &[u32]) -> Result<Pass> {
        self.enough("pair_queue", &self.pair_queue, images)?;
        let pass = self.pass(pair, images, Keys::Generated)?;
        self.pending_pair.push((pass.keys.clone(), images.to_vec()));
        Ok(pass)
    }

    fn between(&self, query: &Tensor, key: &Tensor, images: &[u32]) -> Result<Between> {
        self.enough("pair_queue", &self.pair_queue, images)?;
        self.fetch_heads()?;
        let query = self.head.forward(query)?;
        let keys = self.key_head.forward(&key.detach())?.detach();
        let held = self.pair_queue.keys()?;
        let temperature = self.cfg.temperature;
        let found = info_nce(&query, &keys, images, negatives(&held), temperature)?;
        Ok(Between { found, keys })
    }

    fn keep_pair_keys(&mut self, keys: &Tensor, images: &[u32]) -> Result<()> {
        self.pending_pair.push((keys.clone(), images.to_vec()));
        Ok(())
    }

    fn against(&self, pass: &Pass, [_, second]: [&Tensor; 2], images: &[u32]) -> Result<Tensor> {
        self.fetch_heads()?;
        let (_, keys) = self.keys(second, Keys::Other)?;
        let held = self.queue.keys()?;
        let temperature = self.cfg.temperature;
        let query = first(&pass.queries)?;
        Ok(info_nce(query, &keys, images, negatives(&held), temperature)?.loss)
    }

    fn after_step(&mut self) -> Result<()> {
        let real = std::mem::take(&mut self.pending);
        let generated = std::mem::take(&mut self.pending_pair);
        let real_there = std::mem::take(&mut self.pending_there);
        let generated_there = std::mem::take(&mut self.pending_pair_there);
        if real.is_empty() && real_there.is_empty() {
            bail!("after_step: no pass on real views since the last one");
        }
        // The queues first: they refuse keys that are not finite, and then nothing is averaged.
        for (keys, images) in real {
            self.queue.enqueue(&keys, &images)?;
        }
        for (keys, images) in generated {
            self.pair_queue.enqueue(&keys, &images)?;
        }
        for (keys, images) in real_there {
            self.queue.enqueue_there(&keys, &images)?;
        }
        for (keys, images) in generated_there {
            self.pair_queue.enqueue_there(&keys, &images)?;
        }
        let (m, statistics) = (self.cfg.momentum, self.cfg.running_statistics);
        momentum_update(&self.online.parameters, &self.key.parameters, m, statistics)?;
        momentum_update(
            &self.head_parameters,
            &self.key_head_parameters,
            m,
            statistics,
        )?;
        self.step += 1;
        Ok(())
    }

    fn forget_step(&mut self) {
        self.pending.clear();
        self.pending_pair.clear();
        self.pending_there.clear();
        self.pending_pair_there.clear();
    }

    fn gradient_at_pooled(
        &self,
        images: &Tensor,
        others: &Tensor,
        indices: &[u32],
    ) -> Result<(Features, Tensor)> {
        self.fetch_heads()?;
        let features = self.online.encoder.features(images, NormMode::Eval)?;
        let other = self.key.encoder.features(others, NormMode::Eval)?;
        let keys = self.key_head.forward(&other.pooled)?.detach();
        let held = self.queue.keys()?;
        let gradient = gradient_at(&features.pooled, |pooled| {
            let query = self.head.forward(pooled)?;
            let negatives = negatives(&held);
            Ok(info_nce(&query, &keys, indices, negatives, self.cfg.temperature)?.loss)
        })?;
        Ok((features, gradient))
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.online.encoder
    }

    fn target_encoder(&self) -> Option<&dyn Encoder> {
        Some(&self.key.encoder)
    }

    fn encoder_parameters(&self) -> &Parameters {
        &self.online.parameters
    }

    fn trainable(&self) -> BTreeMap<String, Var> {
        trainable(&self.stores()[..2])
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = prefixed([
            ("queue", self.queue.state()?),
            ("pair_queue", self.pair_queue.state()?),
        ]);
        state.extend(of_stores(&self.stores(), [("step", words(&[self.step])?)])?);
        Ok(state)
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        check(&self.state()?, state)?;
        let new = |queue: &KeyQueue| KeyQueue::new(queue.capacity(), self.cfg.dim);
        let (mut queue, mut pair_queue) = (new(&self.queue)?, new(&self.pair_queue)?);
        queue.load_state(&under(state, "queue"))?;
        pair_queue.load_state(&under(state, "pair_queue"))?;
        let step = counters(take(state, "step", &[1])?)?[0];
        for (prefix, store) in self.stores() {
            store.set_all(&under(state, prefix))?;
        }
        (self.queue, self.pair_queue, self.step) = (queue, pair_queue, step);
        self.forget_step();
        Ok(())
    }
}

/// The query of a pass with one branch.
fn first(queries: &[Tensor]) -> Result<&Tensor> {
    match queries {
        [query] => Ok(query),
        many => bail!("moco: {} queries, expected one", many.len()),
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
