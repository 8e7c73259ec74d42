//! A run: started, and judged again.

use std::path::PathBuf;
use std::sync::Arc;

use fgvr_data::augment::{ViewKey, augment};
use fgvr_data::{Found, Image, Loader, LoaderConfig, Position, Splits};
use serde::Serialize;

use crate::checkpoint::{self, Saved};
use crate::config::{PretrainConfig, Use};
use crate::data::{Compared, Data, Located, UNKNOWN, open_data};
use crate::embedder::at_least_one;
use crate::evaluate::{Evaluation, evaluate};
use crate::session::{Origin, Session};
use crate::start::{find_weights, from_root, open_weights};
use crate::trained::Restored;
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
    /// What was found where the data was opened.
    pub data: Found,
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
    pretrain_with(config, place, compute, true, observer)
}

/// As [`pretrain`]; if it is not to be judged, it ends with its last checkpoint.
///
/// # Errors
/// As [`pretrain`].
pub(crate) fn pretrain_with(
    config: &PretrainConfig,
    place: &Place,
    compute: &Compute,
    is_judged: bool,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    config.validate()?;
    compute.check(config.precision)?;
    place.check()?;
    let splits = open_data(config, observer)?;
    let found = splits.found.clone();
    let images = splits.train.len();
    let (trainer, loaded) = if config.weights.source.is_empty() {
        (Trainer::new(config, images, compute)?, None)
    } else {
        let weights = open_weights(&config.weights.source, observer)?;
        let (trainer, report) = Trainer::from_weights(config, images, &weights, compute)?;
        (trainer, Some(report))
    };
    let data = Data::look(config, &splits, observer)?;
    // Data, settings and weights fit: only now is anything written.
    let run = place.create()?;
    let begin = || -> Result<Session<'_>> {
        run.write("config.toml", config.to_toml()?.as_bytes())?;
        data.keep(&run)?;
        if let Some(report) = &loaded {
            let text = serde_json::to_vec_pretty(report)
                .map_err(|e| Error::run(run.path(), e.to_string()))?;
            run.write("weights.json", &text)?;
        }
        let origin = Origin {
            settings: config.clone(),
            data: data.record(&config.source, &config.source, run.path()),
            weights: from_root(&config.weights.source),
        };
        let session = Session::new(config, &run, splits, trainer, compute, origin)?;
        log_data(&run, &found)?;
        Ok(session)
    };
    let mut session = begin().inspect_err(|_| run.give_up())?;
    session.is_judged = is_judged;
    if let Some(report) = &loaded {
        session.say(observer, &report.to_string())?;
    }
    for warning in config.start_warnings() {
        session.say(observer, &warning)?;
    }
    session.run(observer)
}

/// Judges the encoder of a run's last checkpoint, on the data it was trained on or on `source`, with `batch`
/// images a forward pass or as many as its settings say. Where and in what precision it was trained does not matter,
/// and with a `source` neither do the images it was trained on; without one, the observer hears if they changed.
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
    evaluate_run_with(run, &[], source, batch, compute, observer)
}

/// As [`evaluate_run`], with `settings` over those of the run, each `key.path=value`.
///
/// # Errors
/// As [`evaluate_run`], and a setting that is unknown or has no effect on evaluation.
pub fn evaluate_run_with(
    run: &RunFolder,
    settings: &[String],
    source: Option<&str>,
    batch: Option<usize>,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let mut config = run.config()?;
    let saved = checkpoint::load_last(run)?;
    if let Some(changed) = saved.settings_changed(&config)? {
        observer.on_message(&format!(
            "{changed}; it is judged with what stands there now"
        ));
    }
    if !settings.is_empty() {
        let asked = run.config_for(Use::Evaluate, settings)?;
        config.data = asked.data;
        config.evaluate = asked.evaluate;
        config.normalisation = asked.normalisation;
    }
    find_weights(&mut config, saved.manifest.weights.as_deref());
    if let Some(batch) = batch {
        config.evaluate.batch = at_least_one(batch)?;
    }
    let splits = match source {
        Some(source) => {
            config.source = source.to_owned();
            open_data(&config, observer)?
        }
        None => own_data(run, &mut config, &saved, observer)?,
    };
    let test = splits.test.as_ref().unwrap_or(&splits.val);
    let restored = Restored::new(run, &config, &saved, test, compute)?;
    observer.on_message(&compute.line());
    let networks = (&restored.trained(), compute);
    let (evaluation, warnings) = evaluate(&config, networks, &splits, observer)?;
    for warning in &warnings {
        observer.on_message(warning);
    }
    Ok(evaluation)
}

/// The data that a run was trained on, and a word on whether it still is what it was.
///
/// # Errors
/// Data that is gone.
fn own_data(
    run: &RunFolder,
    config: &mut PretrainConfig,
    saved: &Saved,
    observer: &mut dyn Observer,
) -> Result<Splits> {
    let record = saved.manifest.data.as_ref();
    let remedy = "say where they are now, or name other photos to judge by, with --data";
    let located = Located::of(run, config, record, remedy)?;
    observer.on_data(&located.splits.found);
    if let Some(note) = located.note {
        observer.on_message(&note);
    }
    let data = Data::look(config, &located.splits, observer)?;
    match Compared::new(run, saved, config, &data)? {
        Compared::Same => {}
        Compared::Unknown => observer.on_message(UNKNOWN),
        Compared::Different(difference) => {
            let held_out = match difference.held_out {
                0 => String::new(),
                n => format!(
                    "; {n} photos that were trained on are held out now, so figures flatter"
                ),
            };
            observer.on_message(&format!(
                "warning: the data changed since step {}: {}{held_out}; the figures are of what is there now",
                saved.manifest.step, difference.text
            ));
        }
    }
    Ok(located.splits)
}

/// What was found of the data, for the log; the observer was told when it was opened.
pub(crate) fn log_data(run: &RunFolder, found: &Found) -> Result<()> {
    found.lines().iter().try_for_each(|line| run.log(line))
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
    let start = position(config, splits.train.len(), steps);
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

/// Where in the data a run of `images` training images stands after `steps` optimiser steps.
pub(crate) fn position(config: &PretrainConfig, images: usize, steps: u64) -> Position {
    let batches = (images / config.loader.batch).max(1) as u64;
    let done = steps * config.optimizer.accumulate as u64;
    Position {
        epoch: done / batches,
        batch: done % batches,
    }
}
