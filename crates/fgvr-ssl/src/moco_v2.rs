//! MoCo v2 on one device: a query encoder, its moving average as key encoder, a queue of keys.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::{Encoder, Features, NormMode, Parameters};

use crate::queue::negatives;
use crate::state::{counters, prefixed, take, under, words};
use crate::{
    Base, Branch, KeyQueue, Pass, ProjectionHead, RunningStatistics, Shuffle, info_nce,
    momentum_update,
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

/// An encoder and the variables it was built over.
pub struct Network<E> {
    /// The trunk.
    pub encoder: E,
    /// Its variables, by the names it gave them.
    pub parameters: Parameters,
}

/// Keys of this step and their images, a pair for each pass; they enter the queue only after it.
type Pending = Vec<(Tensor, Vec<u32>)>;

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
}

/// Which shuffle of a step.
#[derive(Clone, Copy)]
enum Keys {
    Real = 0,
    Generated = 1,
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

    /// Forgets the passes since the last [`Base::after_step`]: for a step that is not taken.
    pub fn forget_step(&mut self) {
        self.pending.clear();
        self.pending_pair.clear();
    }

    /// The keys of real images and of generated ones.
    #[must_use]
    pub fn queues(&self) -> [&KeyQueue; 2] {
        [&self.queue, &self.pair_queue]
    }

    /// Features of `images` (N, 3, H, W) and ∂L_C/∂h at their pooled features (N, C), with running
    /// statistics and without changing anything: for looking at what the loss finds important. The
    /// positives are the keys of `others`, other views of the same images.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn gradient_at_pooled(
        &self,
        images: &Tensor,
        others: &Tensor,
        indices: &[u32],
    ) -> Result<(Features, Tensor)> {
        let features = self.online.encoder.features(images, NormMode::Eval)?;
        let pooled = Var::from_tensor(&features.pooled.detach())?;
        let query = self.head.forward(&pooled)?;
        let other = self.key.encoder.features(others, NormMode::Eval)?;
        let keys = self.key_head.forward(&other.pooled)?.detach();
        let held = self.queue.keys()?;
        let found = info_nce(
            &query,
            &keys,
            indices,
            negatives(&held),
            self.cfg.temperature,
        )?;
        let gradients = found.loss.backward()?;
        let Some(gradient) = gradients.get(&pooled) else {
            bail!("gradient_at_pooled: the loss does not depend on the features");
        };
        Ok((features, gradient.clone()))
    }

    /// Pooled features and keys of `images`, in their order, by the key network. Without a way back.
    fn keys(&self, images: &Tensor, which: Keys) -> Result<(Tensor, Tensor)> {
        let n = images.dim(0)?;
        let norm = NormMode::Split {
            groups: self.groups(n),
            update: matches!(which, Keys::Real)
                && self.cfg.running_statistics == RunningStatistics::Own,
        };
        let shuffle = Shuffle::new(n, [self.cfg.seed, self.step, which as u64, 0])?;
        let features = self.key.encoder.features(&shuffle.apply(images)?, norm)?;
        let pooled = shuffle.undo(&features.pooled)?.detach();
        let keys = self.key_head.forward(&pooled)?.detach();
        Ok((pooled, keys))
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
        };
        let (features, tape) = self.online.encoder.forward_train(first, norm)?;
        let query = self.head.forward(&features.pooled)?;
        let (key_pooled, keys) = self.keys(second, which)?;
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
            keys,
            key_pooled,
            top1: found.top1,
            positive: found.positive,
            negative: found.negative,
        })
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

impl<E: Encoder> Base for MoCoV2<E> {
    fn real(&mut self, views: [&Tensor; 2], images: &[u32]) -> Result<Pass> {
        let pass = self.pass(views, images, Keys::Real)?;
        self.pending.push((pass.keys.clone(), images.to_vec()));
        Ok(pass)
    }

    fn generated(&mut self, pair: [&Tensor; 2], images: &[u32]) -> Result<Pass> {
        let pass = self.pass(pair, images, Keys::Generated)?;
        self.pending_pair.push((pass.keys.clone(), images.to_vec()));
        Ok(pass)
    }

    fn after_step(&mut self) -> Result<()> {
        let real = std::mem::take(&mut self.pending);
        let generated = std::mem::take(&mut self.pending_pair);
        if real.is_empty() {
            bail!("after_step: no pass on real views since the last one");
        }
        // The queues first: they refuse keys that are not finite, and then nothing is averaged.
        for (keys, images) in real {
            self.queue.enqueue(&keys, &images)?;
        }
        for (keys, images) in generated {
            self.pair_queue.enqueue(&keys, &images)?;
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

    fn trainable(&self) -> BTreeMap<String, Var> {
        let [encoder, head, ..] = self.stores();
        [encoder, head]
            .into_iter()
            .flat_map(|(prefix, store)| {
                let vars = store.trainable().into_iter();
                vars.map(move |(name, var)| (format!("{prefix}.{name}"), var))
            })
            .collect()
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = prefixed([
            ("queue", self.queue.state()?),
            ("pair_queue", self.pair_queue.state()?),
        ]);
        for (prefix, store) in self.stores() {
            for (name, var) in store.all() {
                state.insert(format!("{prefix}.{name}"), var.as_tensor().copy()?);
            }
        }
        state.insert("step".to_owned(), words(&[self.step])?);
        Ok(state)
    }

    fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let own = self.state()?;
        for (name, tensor) in &own {
            take(state, name, tensor.dims())?;
        }
        if let Some(name) = state.keys().find(|name| !own.contains_key(*name)) {
            bail!("{name}: no tensor of this network");
        }
        let (mut queue, mut pair_queue) = (self.queue.clone(), self.pair_queue.clone());
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

impl MoCoConfig {
    /// Checks what a configuration file can get wrong.
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("dim", self.dim),
            ("hidden", self.hidden.unwrap_or(1)),
            ("queue", self.queue),
            ("pair_queue", self.pair_queue),
            ("groups", self.groups),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            bail!("moco: {name} is 0, expected at least 1");
        }
        if !(0. ..=1.).contains(&self.momentum) {
            bail!(
                "moco: momentum is {}, expected a number in [0, 1]",
                self.momentum
            );
        }
        if !(self.temperature > 0. && self.temperature.is_finite()) {
            bail!(
                "moco: temperature is {}, expected a positive number",
                self.temperature
            );
        }
        Ok(())
    }
}
