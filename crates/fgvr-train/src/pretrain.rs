//! A run: started, gone on with, judged again.

use std::path::PathBuf;
use std::sync::Arc;

use fgvr_data::augment::{ViewKey, augment};
use fgvr_data::{Image, Loader, LoaderConfig, Position, Splits};
use serde::Serialize;

use crate::checkpoint;
use crate::config::PretrainConfig;
use crate::embedder::at_least_one;
use crate::environment::simd;
use crate::evaluate::{Evaluation, evaluate};
use crate::session::Session;
use crate::start::open_weights;
use crate::{Compute, Error, Observer, Place, Result, RunFolder, StepRow, Trainer};

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run folder.
    #[serde(serialize_with = "crate::path_text::serialize")]
    pub run: PathBuf,
    /// Optimiser steps done, of how many.
    pub steps: [u64; 2],
    /// Whether a signal ended the run before its last step; its state is saved.
    pub interrupted: bool,
    /// Seconds of training in this process.
    pub seconds: f64,
    /// The last step's figures.
    pub last: Option<StepRow>,
    /// The evaluation; absent if interrupted.
    pub evaluation: Option<Evaluation>,
}

/// Trains from the start into a fresh run folder, evaluates and reports.
///
/// # Errors
/// Data that cannot be read, settings that do not fit it, an alarm whose policy is to stop.
pub fn pretrain(
    config: &PretrainConfig,
    place: &Place,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    config.validate()?;
    compute.check(config.precision)?;
    place.check()?;
    let splits = fgvr_data::open(&config.source, &config.data)?;
    let images = splits.train.len();
    let (trainer, loaded) = if config.weights.source.is_empty() {
        (Trainer::new(config, images, compute)?, None)
    } else {
        let weights = open_weights(&config.weights.source, observer)?;
        let (trainer, report) = Trainer::from_weights(config, images, &weights, compute)?;
        (trainer, Some(report))
    };
    // Data, settings and weights fit: only now is anything written.
    let run = place.create()?;
    let begin = || -> Result<Session<'_>> {
        run.write("config.toml", config.to_toml()?.as_bytes())?;
        if let Some(report) = &loaded {
            let text = serde_json::to_vec_pretty(report)
                .map_err(|e| Error::run(run.path(), e.to_string()))?;
            run.write("weights.json", &text)?;
        }
        Session::new(config, &run, splits, trainer, compute)
    };
    let session = begin().inspect_err(|_| run.give_up())?;
    if let Some(report) = &loaded {
        session.say(observer, &report.to_string())?;
    }
    session.run(observer)
}

/// Goes on where the last checkpoint of a run stands, with the same bits as if it had never stopped.
///
/// # Errors
/// A checkpoint that is missing, damaged or of another architecture, and as [`pretrain`].
pub fn resume(run: &RunFolder, compute: &Compute, observer: &mut dyn Observer) -> Result<Summary> {
    let config = run.config()?;
    compute.check(config.precision)?;
    let (manifest, tensors) = checkpoint::load_last(run)?;
    let splits = fgvr_data::open(&config.source, &config.data)?;
    // Whatever it started from, all of it is in the checkpoint.
    let mut trainer = Trainer::new(&config, splits.train.len(), compute)?;
    // Only a state that fits is gone on with; until then nothing in the folder is touched.
    trainer.load_state(manifest.step, &tensors).map_err(|e| {
        // Only its first line: candle's errors bring a backtrace along where one is asked for.
        let text = e.to_string();
        let problem = text.lines().next().unwrap_or_default();
        Error::checkpoint(
            &run.join("checkpoints"),
            format!("does not fit the settings in config.toml ({problem}); was the file changed?"),
        )
    })?;
    let mut session = Session::new(&config, run, splits, trainer, compute)?;
    (session.best_val, session.saved) = (manifest.best_val, Some(manifest.step));
    if manifest.simd != simd() {
        let line = format!(
            "this run used {} kernels and goes on with {}: the last bits may differ (FGVR_SIMD chooses)",
            manifest.simd,
            simd()
        );
        session.say(observer, &line)?;
    }
    session.run(observer)
}

/// Judges the encoder of a run's last checkpoint, on the data it was trained on or on `source`, with `batch`
/// images a forward pass or as many as its settings say. Where and in what precision it was trained does not matter.
///
/// # Errors
/// A run without checkpoint, or data that cannot be read.
pub fn evaluate_run(
    run: &RunFolder,
    source: Option<&str>,
    batch: Option<usize>,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let mut config = run.config()?;
    let trained_on = fgvr_data::open(&config.source, &config.data)?.train.len();
    if let Some(source) = source {
        config.source = source.to_owned();
    }
    if let Some(batch) = batch {
        config.evaluate.batch = at_least_one(batch)?;
    }
    let splits = fgvr_data::open(&config.source, &config.data)?;
    let mut trainer = Trainer::new(&config, trained_on, compute)?;
    let (manifest, tensors) = checkpoint::load_last(run)?;
    trainer.load_state(manifest.step, &tensors)?;
    observer.on_message(&compute.line());
    let (evaluation, warnings) = evaluate(&config, (&trainer, compute), &splits, observer)?;
    for warning in &warnings {
        observer.on_message(warning);
    }
    Ok(evaluation)
}

/// The loader at the position after `steps` optimiser steps.
pub(crate) fn loader(config: &PretrainConfig, splits: &Splits, steps: u64) -> Result<Loader> {
    let (size, crop_size) = (config.data.size, config.crop_size());
    let normalisation = config.normalisation.clone();
    let first = config.augment.clone();
    let second = config.augment_second.clone().unwrap_or(first.clone());
    let small = config.crop_augment();
    let transform = move |image: &Image, key: ViewKey| {
        let (how, size) = match key.view {
            0 => (&first, size),
            1 => (&second, size),
            _ => (&small, crop_size),
        };
        augment(image, size, how, &normalisation, key)
    };
    let batches = (splits.train.len() / config.loader.batch).max(1) as u64;
    let done = steps * config.optimizer.accumulate as u64;
    let start = Position {
        epoch: done / batches,
        batch: done % batches,
    };
    let settings = LoaderConfig {
        batch: config.loader.batch,
        views: 2,
        crops: config.local_crops(),
        crop_size,
        drop_last: true,
        seed: config.seed,
        prefetch_bytes: config.loader.prefetch_mib << 20,
        size,
        bad_image_budget: config.loader.bad_image_budget,
        threads: config.loader.threads,
    };
    Ok(Loader::new(
        Arc::clone(&splits.train),
        settings,
        Arc::new(transform),
        start,
    )?)
}
