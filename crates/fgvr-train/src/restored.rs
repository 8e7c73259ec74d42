//! What evaluation needs of a run, from a checkpoint, without what training alone needs.

use std::sync::Arc;

use candle_core::{DType, Device};
use fgvr_data::Dataset;
use fgvr_encoder::{Backbone, FrozenBackbone};
use fgvr_ssl::{Addon, RunLength};

use crate::checkpoint::{Saved, under};
use crate::config::PretrainConfig;
use crate::embedder::encoder_parameters;
use crate::evaluate::Networks;
use crate::objective::{OBJECTIVE, Objective, bank, build_addons};
use crate::parts::MapSources;
use crate::{Compute, Result, RunFolder};

/// The networks of a checkpoint.
pub(crate) struct Restored {
    encoder: FrozenBackbone,
    addons: Vec<Box<dyn Addon + Send>>,
    /// Only for sets that know the parts of their images.
    objective: Option<Objective>,
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
        for mut addon in build_addons(config, run_length, (compute, None))? {
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

        let knows_parts = test.knows_parts()?;
        let objective = match knows_parts {
            true => Some(objective(run, config, saved, run_length, compute)?),
            false => None,
        };
        Ok(Self {
            encoder,
            addons,
            objective,
        })
    }

    /// What is judged.
    ///
    /// # Errors
    /// What a device says.
    pub(crate) fn networks(&self) -> Result<Networks<'_>> {
        let maps = match &self.objective {
            Some(of) => Some(MapSources {
                base: of.base.as_ref(),
                bank: bank(&of.addons)?,
                addons: &of.addons,
            }),
            None => None,
        };
        Ok(Networks {
            encoder: &self.encoder,
            screening: self.addons.iter().find_map(|addon| addon.screening()),
            decoder: self.addons.iter().find_map(|addon| addon.decoder()),
            maps,
        })
    }
}

/// Base and add-ons, with queues as long as they are in the checkpoint.
fn objective(
    run: &RunFolder,
    config: &PretrainConfig,
    saved: &Saved,
    run_length: RunLength,
    compute: &Compute,
) -> Result<Objective> {
    // Of any set: queues are as long as those in the checkpoint.
    let mut base = config.base_config(usize::MAX)?;
    base.fit_to_state(&under(&saved.tensors, OBJECTIVE));
    let (mut objective, ()) =
        Objective::new(config, base.as_ref(), run_length, (compute, None), |_| {
            Ok(())
        })?;
    objective
        .load_state(&saved.tensors)
        .map_err(|error| saved.unfit(run, config, error))?;
    Ok(objective)
}
