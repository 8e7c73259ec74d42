//! MoCo v2 on one device: a query encoder, its moving average as key encoder, a queue of keys.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};

use crate::base::gradient_at;
use crate::contrast::contrast;
use crate::momentum::{check_momentum, check_temperature};
use crate::projection::Projection;
use crate::recipe::{LearningRate, MOCO_V2_VIEWS, Optimizer, Recipe, Trunk};
use crate::registry::{BaseConfig, Parts, sizes};
use crate::state::{check, counters, of_stores, prefixed, take, trainable, under, words};
use crate::values::{device_of_all, features, place};
use crate::{
    Base, BaseKind, Between, Branch, Found, KeyQueue, MomentumSchedule, Network, Pass,
    ProjectionHead, Rows, RunningStatistics, Shuffle, Values, Views, momentum_update,
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
type Pending = Vec<PendingKeys>;

struct PendingKeys {
    keys: Rows,
    images: Vec<u32>,
    /// What the pass found that they were the keys of.
    found: Option<Found>,
}

/// MoCo v2 (arXiv:2003.04297) as a [`Base`].
///
/// # Differs
/// Shuffled batch norm across GPUs becomes split batch norm on one device: the key batch is shuffled by
/// a permutation of (seed, step), takes its statistics over sub-batches, and is put back in order.
/// The queue starts empty rather than random, and keys of the query's own image are no negatives
/// ([`info_nce`](crate::info_nce())). The average is taken after the optimiser's step, not before the next forward pass,
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
}

impl PendingKeys {
    fn of(pass: &Pass, images: &[u32]) -> Self {
        Self {
            keys: pass.keys.clone(),
            images: images.to_vec(),
            found: Some(pass.found.measured()),
        }
    }

    fn enter(self, queue: &mut KeyQueue) -> Result<()> {
        // A key that is not finite makes its pass's loss so, which the caller has waited for by now.
        let known = match (&self.keys, &self.found) {
            (Rows::Device(_), Some(found)) => found.numbers()?.loss.is_finite(),
            _ => false,
        };
        queue.push(&self.keys, &self.images, known)
    }
}

/// What the key network makes of images, in their order, without a way back.
struct KeyFeatures {
    map: Values,
    pooled: Values,
    /// (N, D), of length one.
    keys: Rows,
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

    fn keys(&self, images: &Values, which: Keys) -> Result<KeyFeatures> {
        let n = images.len()?;
        let norm = NormMode::Split {
            groups: self.groups(n),
            update: matches!(which, Keys::Real)
                && self.cfg.running_statistics == RunningStatistics::Own,
        };
        let shuffle = Shuffle::new(n, [self.cfg.seed, self.step, which as u64, 0])?;
        let shuffled = images.reordered(shuffle.order())?;
        let (map, pooled) = features(&self.key.encoder, &shuffled, norm)?;
        let order = shuffle.inverse();
        let pooled = pooled.reordered(&order)?;
        let keys = self.key_head.project(Projection::constant(&pooled)?)?;
        Ok(KeyFeatures {
            map: map.reordered(&order)?,
            keys: keys.unit()?,
            pooled,
        })
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

    fn pass(&self, [first, second]: [&Values; 2], images: &[u32], which: Keys) -> Result<Pass> {
        let (norm, queue) = match which {
            Keys::Real => (NormMode::Train, &self.queue),
            Keys::Generated => (NormMode::NoUpdate, &self.pair_queue),
            Keys::Other => (NormMode::NoUpdate, &self.queue),
        };
        let branch = Branch::forward(&self.online.encoder, first, norm, 0)?;
        let query = self.head.project(Projection::of(&branch)?)?;
        let key = self.keys(second, which)?;
        let held = queue.held(first.device())?;
        let (found, query) = contrast(query, &key.keys, images, &held, self.cfg.temperature)?;
        Ok(Pass {
            branches: vec![branch],
            found,
            query,
            keys: key.keys,
            key_pooled: key.pooled.rows()?,
            key_map: Some(key.map),
        })
    }

    /// Where both networks live and run, if that is one device.
    fn networks_device(&self) -> Option<fgvr_nn::Device> {
        let networks = [&self.online.parameters, &self.key.parameters];
        device_of_all(&self.online.encoder, networks)
    }

    /// Takes heads and queues to where a pass is to run.
    fn place(&mut self) -> Result<Option<fgvr_nn::Device>> {
        let device = self.networks_device();
        place(
            [&self.head_parameters, &self.key_head_parameters],
            device.as_ref(),
        )?;
        if let Some(device) = &device {
            self.queue.place_on(device)?;
            self.pair_queue.place_on(device)?;
        }
        Ok(device)
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

    fn device(&self) -> Option<fgvr_nn::Device> {
        self.networks_device()
    }

    fn real(&mut self, views: Views<'_>, images: &[u32]) -> Result<Pass> {
        self.enough("queue", &self.queue, images)?;
        let device = self.place()?;
        let [first, second] = views.only_global("moco", device.as_ref())?;
        let pass = self.pass([&first, &second], images, Keys::Real)?;
        self.pending.push(PendingKeys::of(&pass, images));
        Ok(pass)
    }

    fn generated(&mut self, pair: [&Values; 2], images: &[u32]) -> Result<Pass> {
        self.enough("pair_queue", &self.pair_queue, images)?;
        let device = self.place()?;
        let [query, key] = pair.map(|images| images.placed(device.as_ref()));
        let pass = self.pass([&query?, &key?], images, Keys::Generated)?;
        self.pending_pair.push(PendingKeys::of(&pass, images));
        Ok(pass)
    }

    fn between(&self, query: &Values, key: &Values, images: &[u32]) -> Result<Between> {
        self.enough("pair_queue", &self.pair_queue, images)?;
        let query = self.head.project(Projection::from(query, 0)?)?;
        let keys = self.key_head.project(Projection::constant(key)?)?.unit()?;
        let held = self.pair_queue.held(query.values.device())?;
        let (found, _) = contrast(query, &keys, images, &held, self.cfg.temperature)?;
        Ok(Between { found, keys })
    }

    fn keep_pair_keys(&mut self, keys: &Rows, images: &[u32]) -> Result<()> {
        self.pending_pair.push(PendingKeys {
            keys: keys.clone(),
            images: images.to_vec(),
            found: None,
        });
        Ok(())
    }

    fn against(&self, pass: &Pass, [_, second]: [&Tensor; 2], images: &[u32]) -> Result<Found> {
        let [branch] = pass.branches.as_slice() else {
            bail!("moco: {} queries, expected one", pass.branches.len());
        };
        let query = self.head.project(Projection::of(branch)?)?;
        let second = Values::from(second).placed(pass.device())?;
        let keys = self.keys(&second, Keys::Other)?.keys;
        let held = self.queue.held(pass.device())?;
        Ok(contrast(query, &keys, images, &held, self.cfg.temperature)?.0)
    }

    fn after_step(&mut self) -> Result<()> {
        let real = std::mem::take(&mut self.pending);
        let generated = std::mem::take(&mut self.pending_pair);
        if real.is_empty() {
            bail!("after_step: no pass on real views since the last one");
        }
        // The queues first: they refuse keys that are not finite, and then nothing is averaged.
        for keys in real {
            keys.enter(&mut self.queue)?;
        }
        for keys in generated {
            keys.enter(&mut self.pair_queue)?;
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
    }

    fn gradient_at_pooled(
        &self,
        images: &Tensor,
        others: &Tensor,
        indices: &[u32],
    ) -> Result<(Features, Tensor)> {
        place([&self.head_parameters, &self.key_head_parameters], None)?;
        let features = self.online.encoder.features(images, NormMode::Eval)?;
        let other = self.key.encoder.features(others, NormMode::Eval)?;
        let keys = Rows::Host(self.key_head.forward(&other.pooled)?.detach());
        let (held, temperature) = (self.queue.held(None)?, self.cfg.temperature);
        let gradient = gradient_at(&features.pooled, |pooled| {
            let query = self
                .head
                .project(Projection::from(&Values::from(pooled), 0)?)?;
            let (found, _) = contrast(query, &keys, indices, &held, temperature)?;
            found.tensor().cloned()
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
