//! What a run would cost, before it is spent.

use std::sync::Arc;
use std::time::Instant;

use fgvr_data::Found;
use fgvr_ssl::SynthPairConfig;
use serde::Serialize;

use crate::config::PretrainConfig;
use crate::data::open_data;
use crate::environment::peak_memory;
use crate::loader::loader;
use crate::teacher::stand_in;
use crate::{Compute, Observer, Result, Trainer};

/// Steps that are tried: one to warm up, the others are timed.
pub(crate) const TRIED: u64 = 4;

/// Parameters, memory, steps and time of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// What it starts from: `random weights`, or the source of pretrained ones.
    pub start: String,
    /// What is trained, and how, in words.
    pub recipe: String,
    /// Trained values of encoder, head and decoder.
    pub parameters: Vec<(&'static str, usize)>,
    /// Images of the training, validation and test split.
    pub images: [usize; 3],
    /// Classes; 0 without labels.
    pub classes: usize,
    /// What was found where the data was opened.
    pub data: Found,
    /// Optimiser steps.
    pub steps: u64,
    /// Optimiser steps a pass over the training split.
    pub steps_per_epoch: u64,
    /// Seconds a step of the base part takes here, measured on the first steps.
    pub seconds_per_base_step: f64,
    /// Seconds a step with generated pairs takes here, measured; absent for arms without them.
    pub seconds_per_pair_step: Option<f64>,
    /// Seconds of all steps, evaluation apart.
    pub seconds: f64,
    /// Peak memory of this process after those steps in bytes, where the system tells.
    pub memory: Option<u64>,
}

/// Plans a run by doing its first few steps, with and without generated pairs, and throwing them
/// away.
///
/// # Errors
/// What would stop the run at its start.
pub fn plan(
    config: &PretrainConfig,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Plan> {
    config.validate()?;
    compute.check(config.precision)?;
    let splits = open_data(config, observer)?;
    for warning in config.start_warnings() {
        observer.on_message(&warning);
    }
    let images = splits.train.len();
    let teacher = stand_in(config, images)?;
    let trainer = Trainer::taught(config, images, teacher.as_ref(), compute)?;
    let steps = trainer.total_steps();
    let parameters = trainer.parameter_counts();
    let with_pairs = config.pairs().nu > 0.;
    drop(trainer);
    // The pair loss starts after a warm-up; for the trial it starts at once, or never.
    let time = |pairs: bool| -> Result<f64> {
        let mut trial = config.clone();
        trial.optimizer.steps = Some(TRIED + 1);
        trial.begin_pairs_at_once()?;
        if !pairs {
            trial.methods.get_mut::<SynthPairConfig>()?.warm_up = 1.;
        }
        let teacher = stand_in(&trial, images)?;
        let mut trainer = Trainer::taught(&trial, images, teacher.as_ref(), compute)?;
        let mut loader = loader(&trial, &splits, None, 0)?;
        let mut seconds = Vec::new();
        for _ in 0..TRIED {
            let started = Instant::now();
            let batches = (0..trial.optimizer.accumulate)
                .map(|_| loader.next())
                .collect::<std::result::Result<Vec<_>, _>>()?;
            trainer.step(&batches, false)?;
            seconds.push(started.elapsed().as_secs_f64());
        }
        // The first two warm up: buffers, and a bank that is large enough for a mask.
        seconds.drain(..2);
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[0])
    };
    let base = time(false)?;
    let pair = if with_pairs { Some(time(true)?) } else { None };
    let warm_up = config.pairs().warm_up.clamp(0., 1.);
    let seconds = steps as f64 * pair.map_or(base, |pair| base * warm_up + pair * (1. - warm_up));
    Ok(Plan {
        start: config.start(),
        recipe: format!("{}, {}", config.method(), config.recipe()),
        parameters,
        images: [
            images,
            splits.val.len(),
            splits.test.as_ref().map_or(0, |t: &Arc<_>| t.len()),
        ],
        classes: splits.found.classes,
        data: splits.found.clone(),
        steps,
        steps_per_epoch: config.steps_per_epoch(images),
        seconds_per_base_step: base,
        seconds_per_pair_step: pair,
        seconds,
        memory: peak_memory(),
    })
}
