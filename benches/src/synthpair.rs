//! One step of SynthPair on MoCo v2, by the trainer that `fgvr pretrain` uses.
//!
//! Every step is a whole one: the pair's warm-up is left out, and the queues and the bank are full
//! from the start. The pair's own augmentation is left out, here and on PyTorch's side: it is work on
//! pictures, and torchvision's does not take a batch with a draw of its own for each image.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use fgvr_data::Batch;
use fgvr_encoder::{EncoderConfig, Stem};
use fgvr_train::{Compute, PretrainConfig, Trainer};

use crate::case::{Case, Size};
use crate::random;

/// Images of the set the batches pretend to come from.
const SET: u32 = 10_000;

/// The trainer, and views that stay the same.
pub(crate) struct SynthPairStep {
    trainer: Trainer,
    batch: Batch,
}

impl SynthPairStep {
    pub(crate) fn new(size: Size) -> Result<Self> {
        let mut trainer = Trainer::new(&config(size)?, SET as usize, &Compute::cpu())?;
        fill(&mut trainer)?;
        let view = |stream| random::images(size.batch, size.side, stream);
        Ok(Self {
            trainer,
            batch: Batch {
                views: vec![view(1)?, view(2)?],
                crops: Vec::new(),
                indices: (0..size.batch as u32).collect(),
                labels: vec![None; size.batch],
                epoch: 0,
                batch: 0,
                last_of_epoch: false,
                wait: Duration::ZERO,
            },
        })
    }
}

/// The program's defaults but for the size, and without warm-up and the pair's augmentation.
fn config(size: Size) -> Result<PretrainConfig> {
    let mut config = PretrainConfig {
        encoder: EncoderConfig {
            stem: Stem::Small,
            ..size.encoder()?
        },
        ..PretrainConfig::default()
    };
    config.data.size = size.side;
    config.loader.batch = size.batch;
    // More than any run of the benchmark takes.
    config.optimizer.steps = Some(1_000_000);
    config.synthpair.warm_up = 0.;
    config.synthpair.ramp = 0.;
    config.synthpair.augment_pair = false;
    Ok(config)
}

/// Puts random keys into the queues and random features into the bank, as far as they go.
fn fill(trainer: &mut Trainer) -> Result<()> {
    // Copies: a variable cannot be set to its own value.
    let mut state = HashMap::new();
    for (name, tensor) in trainer.state()? {
        state.insert(name, tensor.copy()?);
    }
    for queue in ["objective.queue", "objective.pair_queue"] {
        let name = format!("{queue}.keys");
        let empty = state.get(&name).with_context(|| format!("no {name}"))?;
        let (capacity, width) = empty.dims2()?;
        let keys = matrix(capacity, width, 3)?;
        let length = keys.sqr()?.sum_keepdim(1)?.sqrt()?;
        let images: Vec<u32> = (0..capacity as u32)
            .map(|i| SET / 2 + i % (SET / 2))
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
    }
    let (bank, width) = {
        let bank = trainer.synthpair().bank()?;
        (bank.capacity(), bank.width())
    };
    // As behind a ReLU.
    let features = matrix(bank, width, 4)?.relu()?;
    state.insert("synthpair.bank.features".to_owned(), features);
    state.insert(
        "synthpair.bank.position".to_owned(),
        Tensor::new(&[0i64], &Device::Cpu)?,
    );
    trainer.load_state(0, &state)?;
    ensure!(
        trainer.synthpair().bank()?.len() == bank,
        "the bank was not filled"
    );
    Ok(())
}

fn matrix(rows: usize, columns: usize, stream: u64) -> Result<Tensor> {
    let values = random::values(rows * columns, stream);
    Ok(Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
}

impl Case for SynthPairStep {
    fn images(&self) -> usize {
        self.batch.indices.len()
    }

    fn step(&mut self) -> Result<()> {
        let (row, _) = self
            .trainer
            .step(std::slice::from_ref(&self.batch), false)?;
        // Without these the step would have been a cheaper one.
        if row.loss_pair.is_none() || !row.loss.is_finite() || !row.gradient_norm.is_finite() {
            bail!("the step was not a whole one: {row:?}");
        }
        // The set's images in turn.
        let n = self.batch.indices.len() as u32;
        for index in &mut self.batch.indices {
            *index = (*index + n) % SET;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_pair_and_a_full_queue() {
        let size = Size {
            network: fgvr_encoder::Architecture::ResNet10,
            side: 32,
            batch: 4,
        };
        let mut case = SynthPairStep::new(size).unwrap();
        for _ in 0..2 {
            case.step().unwrap();
        }
        assert_eq!(case.batch.indices, [8, 9, 10, 11]);
        let state = case.trainer.state().unwrap();
        for queue in ["queue", "pair_queue"] {
            let position = &state[&format!("objective.{queue}.position")];
            assert_eq!(position.to_vec1::<i64>().unwrap()[1], 4096);
        }
    }
}
