//! Whole steps of pretraining, by the trainer that `fgvr pretrain` uses, on views that stay the same.
//!
//! Every step is a full one: queues (and the bank) are full from the start. The views begin in the host's memory,
//! and are sent ahead to a device as `fgvr pretrain` does it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use fgvr_data::Batch;
use fgvr_train::{PretrainConfig, Trainer};

use crate::ahead::Ahead;
use crate::case::Case;
use crate::place::Place;
use crate::random;

/// More steps than any run of the benchmark takes.
pub(crate) const STEPS: u64 = 1_000_000;

/// The trainer, and a batch of a set of `set` images.
pub(crate) struct Pretraining {
    pub(crate) trainer: Trainer,
    pub(crate) batch: Batch,
    /// On a device.
    ahead: Option<Ahead>,
    set: u32,
    /// Whether the arm makes pairs.
    pairs: bool,
}

impl Pretraining {
    /// The run of `config` on `set` images, its queue of real images full.
    pub(crate) fn new(config: &PretrainConfig, set: u32, place: &Place) -> Result<Self> {
        let (size, side) = (config.loader.batch, config.data.size);
        let view = |stream| random::images(size, side, stream);
        let views = vec![view(1)?, view(2)?];
        let device = place.compute.device();
        let ahead = device
            .map(|device| Ahead::new(&views, device))
            .transpose()?;
        let mut case = Self {
            trainer: Trainer::new(config, set as usize, &place.compute)?,
            batch: Batch {
                views,
                crops: Vec::new(),
                indices: (0..size as u32).collect(),
                labels: vec![None; size],
                epoch: 0,
                batch: 0,
                last_of_epoch: false,
                wait: Duration::ZERO,
            },
            ahead,
            set,
            pairs: config.pairs().nu > 0.,
        };
        case.fill()?;
        Ok(case)
    }

    /// Puts random keys into the queues and random features into the bank, as far as the arm has them.
    fn fill(&mut self) -> Result<()> {
        // Copies: a variable cannot be set to its own value.
        let mut state = HashMap::new();
        for (name, tensor) in self.trainer.state()? {
            state.insert(name, tensor.copy()?);
        }
        let queues: &[&str] = match self.pairs {
            true => &["objective.queue", "objective.pair_queue"],
            false => &["objective.queue"],
        };
        for queue in queues {
            fill_queue(&mut state, queue, self.set)?;
        }
        if self.pairs {
            let bank = self.trainer.bank()?.context("no bank")?;
            // As behind a ReLU.
            let features = matrix(bank.capacity(), bank.width(), 4)?.relu()?;
            state.insert("synthpair.bank.features".to_owned(), features);
            state.insert(
                "synthpair.bank.position".to_owned(),
                Tensor::new(&[0i64], &Device::Cpu)?,
            );
        }
        self.trainer.load_state(0, &state)?;
        let bank = self.trainer.bank()?.context("no bank")?;
        ensure!(
            !self.pairs || bank.len() == bank.capacity(),
            "the bank was not filled"
        );
        Ok(())
    }
}

fn fill_queue(state: &mut HashMap<String, Tensor>, queue: &str, set: u32) -> Result<()> {
    let name = format!("{queue}.keys");
    let empty = state.get(&name).with_context(|| format!("no {name}"))?;
    let (capacity, width) = empty.dims2()?;
    let keys = matrix(capacity, width, 3)?;
    let length = keys.sqr()?.sum_keepdim(1)?.sqrt()?;
    let images: Vec<u32> = (0..capacity as u32)
        .map(|i| set / 2 + i % (set / 2))
        .collect();
    state.insert(name, keys.broadcast_div(&length)?);
    state.insert(
        format!("{queue}.images"),
        Tensor::new(images, &Device::Cpu)?,
    );
    state.insert(
        format!("{queue}.position"),
        Tensor::new(&[0i64, capacity as i64], &Device::Cpu)?,
    );
    Ok(())
}

fn matrix(rows: usize, columns: usize, stream: u64) -> Result<Tensor> {
    let values = random::values(rows * columns, stream);
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

impl Case for Pretraining {
    fn images(&self) -> usize {
        self.batch.indices.len()
    }

    fn step(&mut self) -> Result<()> {
        let staged = self.ahead.as_ref().map(Ahead::next).transpose()?;
        let batch = std::slice::from_ref(&self.batch);
        let (row, _) = self.trainer.step_staged(batch, vec![staged], false)?;
        let finite = row.loss.is_finite() && row.gradient_norm.is_finite();
        // Without these the step would have been a cheaper one.
        if row.get("loss_pair").is_some() != self.pairs || !finite {
            bail!("the step was not a whole one: {row:?}");
        }
        // The set's images in turn.
        let n = self.batch.indices.len() as u32;
        for index in &mut self.batch.indices {
            *index = (*index + n) % self.set;
        }
        Ok(())
    }
}
