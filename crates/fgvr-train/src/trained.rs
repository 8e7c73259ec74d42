//! What evaluation needs of a run: from a trainer that is at hand, or from a checkpoint, without what training alone
//! needs.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use fgvr_data::Dataset;
use fgvr_encoder::{Backbone, FrozenBackbone};
use fgvr_nn::Decoder;
use fgvr_ssl::{Addon, BaseKind, RunLength, Screening};

use crate::checkpoint::Saved;
use crate::config::PretrainConfig;
use crate::embedder::encoder_parameters;
use crate::trainer::build_addons;
use crate::{Compute, Result, RunFolder, Trainer};

/// What is judged.
pub(crate) struct Trained<'a> {
    pub(crate) encoder: &'a FrozenBackbone,
    /// The map that weighs places, of a run with an add-on that has one.
    pub(crate) screening: Option<&'a Screening>,
    /// Of arms that have one.
    pub(crate) decoder: Option<&'a dyn Decoder>,
    /// Base and add-ons, which say where they look: needed on sets that know the parts of their images.
    pub(crate) trainer: Option<&'a Trainer>,
}

impl<'a> Trained<'a> {
    /// All of it, as `trainer` has it; `encoder` is its own, frozen.
    pub(crate) fn of(trainer: &'a Trainer, encoder: &'a FrozenBackbone) -> Self {
        Self {
            encoder,
            screening: trainer.addons().iter().find_map(|addon| addon.screening()),
            decoder: trainer.addons().iter().find_map(|addon| addon.decoder()),
            trainer: Some(trainer),
        }
    }
}

/// The same, taken from a checkpoint.
pub(crate) struct Restored {
    encoder: FrozenBackbone,
    addons: Vec<Box<dyn Addon + Send>>,
    trainer: Option<Trainer>,
}

impl Restored {
    /// What `saved` holds of the networks of `run`, to be judged on the images of `test`. Neither the images that it was
    /// trained on nor its queues matter.
    ///
    /// # Errors
    /// Tensors that do not fit the settings in `config`.
    pub(crate) fn new(
        run: &RunFolder,
        config: &PretrainConfig,
        saved: &Saved,
        test: &Arc<dyn Dataset>,
        compute: &Compute,
    ) -> Result<Self> {
        let unfit = |error: candle_core::Error| saved.unfit(run, config, error);
        let parameters = encoder_parameters(run, config, saved)?;
        let vb = parameters.builder(DType::F32, &Device::Cpu);
        let encoder = Backbone::new(&config.encoder, vb)?;
        let encoder = encoder.on(compute.device().cloned()).freeze()?;

        let run_length = RunLength {
            steps: saved.manifest.step.max(1),
            steps_per_epoch: 1,
        };
        let mut addons = Vec::new();
        for mut addon in build_addons(config, run_length, compute)? {
            let tensors = |file: &str| under(&saved.tensors, file);
            if addon.screening().is_some() {
                let own = tensors(addon.kind().section());
                addon.load_state(&own).map_err(unfit)?;
            }
            if let (Some(_), Some(own)) = (addon.decoder(), addon.own_optimizer()) {
                let variables = tensors(own.files[0]);
                own.parameters.set_all(&variables).map_err(unfit)?;
            }
            addons.push(addon);
        }

        let knows_parts = !test.is_empty() && test.part_mask(0)?.is_some();
        let trainer = match knows_parts {
            true => Some(trainer(run, config, saved, compute)?),
            false => None,
        };
        Ok(Self {
            encoder,
            addons,
            trainer,
        })
    }

    /// What is judged.
    pub(crate) fn trained(&self) -> Trained<'_> {
        Trained {
            encoder: &self.encoder,
            screening: self.addons.iter().find_map(|addon| addon.screening()),
            decoder: self.addons.iter().find_map(|addon| addon.decoder()),
            trainer: self.trainer.as_ref(),
        }
    }
}

/// The whole trainer, with queues as long as they are in the checkpoint.
fn trainer(
    run: &RunFolder,
    config: &PretrainConfig,
    saved: &Saved,
    compute: &Compute,
) -> Result<Trainer> {
    let mut config = config.clone();
    let mut images = config.loader.batch;
    if config.base == BaseKind::MoCoV2 {
        let length = |name: &str| {
            let images = saved.tensors.get(&format!("objective.{name}.images"));
            images.map_or(1, Tensor::elem_count)
        };
        (config.moco.queue, config.moco.pair_queue) = (length("queue"), length("pair_queue"));
        // A queue is as long as is asked for where the set has twice as many images and a batch is no longer.
        let [short, long] =
            [Ord::min, Ord::max].map(|pick| pick(config.moco.queue, config.moco.pair_queue));
        config.loader.batch = config.loader.batch.min(short);
        images = (2 * long).max(config.loader.batch);
    }
    let mut trainer = Trainer::new(&config, images, compute)?;
    trainer
        .load_state(saved.manifest.step, &saved.tensors)
        .map_err(|error| saved.unfit(run, &config, error))?;
    Ok(trainer)
}

/// The tensors under `section`, without it.
pub(crate) fn under(tensors: &HashMap<String, Tensor>, section: &str) -> HashMap<String, Tensor> {
    let section = format!("{section}.");
    let inside = |name: &String| name.strip_prefix(&section).map(str::to_owned);
    tensors
        .iter()
        .filter_map(|(name, tensor)| Some((inside(name)?, tensor.clone())))
        .collect()
}
