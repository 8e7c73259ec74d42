//! MoCo v2 on one device: a query encoder, its moving average as key encoder, a queue of keys.

mod config;
mod objective;
mod pending;
mod queue;

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};

use self::objective::Keys;
use self::pending::PendingKeys;
use crate::bases::base::gradient_at;
use crate::bases::projection::Projection;
use crate::losses::contrast::contrast;
use crate::step::state::{check, counters, of_stores, prefixed, take, trainable, under, words};
use crate::step::values::{device_of_all, place};
use crate::{
    Base, BaseKind, Between, Found, MethodConfig, Network, Pass, ProjectionHead, Rows,
    RunningStatistics, Values, Views, momentum_update,
};

pub use self::config::MoCoConfig;
pub use self::queue::KeyQueue;

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
    /// One for each pass.
    pending: Vec<PendingKeys>,
    pending_pair: Vec<PendingKeys>,
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
            pending: Vec::new(),
            pending_pair: Vec::new(),
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
        BaseKind::MOCO_V2
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

    fn against(&self, pass: &Pass, views: [&Tensor; 2], images: &[u32]) -> Result<Found> {
        let between = self.against_held(pass, views, images, &self.queue)?;
        Ok(between.found)
    }

    fn negatives(&self) -> Option<&KeyQueue> {
        Some(&self.queue)
    }

    fn against_held(
        &self,
        pass: &Pass,
        [_, second]: [&Tensor; 2],
        images: &[u32],
        held: &KeyQueue,
    ) -> Result<Between> {
        let [branch] = pass.branches.as_slice() else {
            bail!("moco: {} queries, expected one", pass.branches.len());
        };
        let query = self.head.project(Projection::of(branch)?)?;
        let second = Values::from(second).placed(pass.device())?;
        let keys = self.keys(&second, Keys::Other)?.keys;
        let held = held.held(pass.device())?;
        let (found, _) = contrast(query, &keys, images, &held, self.cfg.temperature)?;
        Ok(Between { found, keys })
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
