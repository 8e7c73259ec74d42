//! `fgvr adapt --train`: careful training first, then the closed form on what came of it, each only as far as photos that
//! neither has seen let it through.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use fgvr_data::DataConfig;
use fgvr_eval::{Embeddings, knn};
use serde::Serialize;

use super::gate::{answer, nobody};
use super::judge::{Row, table_of};
use super::{AdaptOptions, Adapted, Answer, Features, Gate, adapt_embedder};
use crate::against_start::{AgainstStart, ComparedBy};
use crate::config::Layers;
use crate::pretrain::pretrain_with;
use crate::resume::{ResumeOptions, resume_with};
use crate::{
    Compute, Embedder, Error, Observer, Place, PretrainConfig, Result, RunFolder, path_text,
};

/// What training came to, before the adaptation.
#[derive(Clone, Debug, Serialize)]
pub struct Training {
    /// The run folder.
    #[serde(serialize_with = "crate::path_text::serialize")]
    pub run: PathBuf,
    /// How it was trained, in words.
    pub recipe: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of them in this process; 0 where they were done before.
    pub seconds: f64,
    /// What photos without labels say of the trained network beside the start: `plain` is the start's figure, `adapted`
    /// the trained network's.
    pub gate: Gate,
    /// Both by kNN of the photos that are held out; absent where these have no labels.
    pub against_start: Option<AgainstStart>,
    /// Whether the trained network is taken further, rather than the start.
    pub is_taken: bool,
}

impl Training {
    /// What it came to, in one line.
    #[must_use]
    pub fn answer(&self) -> String {
        let knn = match &self.against_start {
            Some(against) => {
                let side = if against.is_below {
                    "below"
                } else {
                    "not below"
                };
                format!(
                    "; {side} its start by kNN of {} held-out photos, {:.1} % after {:.1} %",
                    against.images,
                    100. * against.trained,
                    100. * against.start
                )
            }
            None => String::new(),
        };
        let taken = match self.is_taken {
            true => "the trained network is taken",
            false => "the start is taken instead",
        };
        format!(
            "training: {}: {}{knn}; {taken}",
            self.gate.answer, self.gate.reason
        )
    }
}

/// Careful training of the network that `source` names on the photos `data`: the preset that fits it, under `settings`,
/// each `key.path=value`. A tenth of the photos, and fifty at least, is kept for the gate as validation split where
/// `settings` and folders do not say otherwise.
///
/// # Errors
/// Weights that cannot be opened, photos that cannot be found, settings that do not fit.
pub fn careful_config(
    source: &str,
    data: &str,
    settings: &[String],
    observer: &mut dyn Observer,
) -> Result<PretrainConfig> {
    let mut layers = Layers::default();
    layers.weights(source, observer)?;
    let preset = layers.careful_preset();
    layers.preset_under(preset)?;
    layers.set_value("name", preset)?;
    layers.set_value("source", data)?;
    for setting in settings {
        layers.set(setting)?;
    }
    if layers.get("data.val_fraction").is_none() {
        let share = validation_share(&layers.resolve()?, data)?;
        layers.set_value("data.val_fraction", share)?;
    }
    layers.resolve()
}

/// The share of the photos that the gate needs, in steps of a hundredth.
fn validation_share(config: &PretrainConfig, data: &str) -> Result<f64> {
    let (usual, least) = (0.1, config.adapt.held_out_min as f64);
    let whole = DataConfig {
        val_fraction: 0.,
        ..config.data.clone()
    };
    let photos = fgvr_data::open(data, &whole)?.train.len() as f64;
    // A hash decides, so that the share is met by about a tenth of itself.
    let share = (110. * least / photos.max(1.)).ceil() / 100.;
    Ok(match share <= 0.5 {
        true => share.max(usual),
        false => usual,
    })
}

/// Trains in the run folder `folder`, or goes on where an earlier call with the same `config` stopped; a run that has
/// ended is taken as it is.
///
/// # Errors
/// As [`crate::pretrain`]; a folder that holds a run of other settings; [`Error::Stopped`] where the observer asked for it.
pub fn train_carefully(
    config: &PretrainConfig,
    folder: &Path,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<(RunFolder, f64)> {
    let (run, summary) = match folder.symlink_metadata().is_ok() {
        true => {
            let run = RunFolder::open(folder)?;
            if let Some((key, was, is)) = run.config()?.first_difference(config)? {
                return Err(Error::run(
                    folder,
                    format!(
                        "holds a training with {key} = {was}, and {is} is asked for now; remove it, or choose another --out"
                    ),
                ));
            }
            let how = ResumeOptions::default();
            let summary = resume_with(&run, &how, compute, false, observer)?;
            (run, summary)
        }
        false => {
            let place = Place::Folder(folder.to_owned());
            let summary = pretrain_with(config, &place, compute, false, observer)?;
            (RunFolder::open(folder)?, summary)
        }
    };
    let [done, total] = summary.steps;
    if summary.interrupted {
        return Err(Error::Stopped {
            problem: format!(
                "stopped after {done} of {total} steps, which are kept in {}; the same command goes on from there",
                path_text(folder)
            ),
        });
    }
    Ok((run, summary.seconds))
}

/// Adapts `start` and what was `trained` from it to the photos of `source`, and takes the better of the two as far as the
/// photos of the validation split can tell, on which neither was trained nor anything fitted. The table compares all four.
/// The answer is that of the network that is taken, which comes with it.
///
/// # Errors
/// As [`adapt`](super::adapt()).
pub fn adapt_trained<'a>(
    [start, trained]: [&'a Embedder; 2],
    (run, config, seconds): (&RunFolder, &PretrainConfig, f64),
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<(Adapted, &'a Embedder)> {
    let options = AdaptOptions {
        apart: true,
        ..options.clone()
    };
    let mut both = Vec::new();
    for (embedder, name) in [(start, "the start"), (trained, "the trained network")] {
        observer.on_message(&format!("adapting {name}"));
        both.push(adapt_embedder(
            embedder,
            &config.source,
            &options,
            true,
            observer,
        )?);
    }
    let Ok([before, after]) = <[_; 2]>::try_from(both) else {
        return Err(Error::config("adapt", "expected two networks"));
    };
    let gate = compare([&before.1, &after.1], &options)?;
    let against_start = by_labels([&before.1, &after.1], &options)?;
    let below = against_start.as_ref().is_some_and(|found| found.is_below);
    let training = Training {
        run: run.path().to_owned(),
        recipe: format!("{}, {}", config.method(), config.recipe()),
        steps: config.total_steps(after.0.photos.fitted),
        seconds,
        is_taken: gate.answer == Answer::Open && !below,
        gate,
        against_start,
    };
    let table = match (&before.1.labelled, &after.1.labelled) {
        (Some((queries_of, database, queries)), Some((_, database_after, queries_after))) => {
            let kind = options.settings.kind;
            let of = [[database, queries], [database_after, queries_after]];
            let adaptations = [&before.0.adaptation, &after.0.adaptation];
            let rows = ["start", "trained"].into_iter().zip(of).zip(adaptations);
            let rows = rows.flat_map(|((name, of), adaptation)| {
                let row = |name: String, adaptation: Option<_>| Row {
                    name,
                    kind: adaptation.map(|_| kind),
                    adaptation,
                    probed: true,
                    of,
                };
                [
                    row(name.to_owned(), None),
                    row(format!("{name}, adapted"), Some(adaptation)),
                ]
            });
            table_of(rows.collect(), *queries_of, Vec::new(), &options, observer)?
        }
        _ => None,
    };
    let (mut taken, embedder) = match training.is_taken {
        true => (after.0, trained),
        false => (before.0, start),
    };
    taken.table = table;
    taken.training = Some(training);
    Ok((taken, embedder))
}

/// What photos without labels say of one network's features beside another's.
fn compare(both: [&Features; 2], options: &AdaptOptions) -> Result<Gate> {
    let (settings, photos) = (&options.settings, both[0].held_out.photos());
    if photos < 2 {
        return Ok(nobody(photos, settings));
    }
    let measured = |of: &Features| of.held_out.measure(None, &of.plain, settings.agreement);
    let [start, trained] = [measured(both[0])?, measured(both[1])?];
    answer([("start", start), ("trained", trained)], photos, settings)
}

/// Both by kNN from the photos that were fitted to, to those that were held out.
fn by_labels(both: [&Features; 2], options: &AdaptOptions) -> Result<Option<AgainstStart>> {
    let photos = both[0].held_out.photos();
    let [fitted, held] = &both[0].labels;
    let seen = |label: &u32| fitted.contains(label);
    let has_labels = held.len() == photos && photos > 0 && held.iter().all(seen);
    if !has_labels {
        return Ok(None);
    }
    let found = both.map(|of| -> Result<f64> {
        let width = of.held_out.width;
        let set = |features: &[f32], labels: &[u32]| -> Result<Embeddings> {
            let shape = (labels.len(), width);
            let features = Tensor::from_slice(features, shape, &Device::Cpu)?;
            Ok(Embeddings::new(features, labels.to_vec())?)
        };
        let [fitted, held] = &of.labels;
        let (among, asking) = (set(&of.plain, fitted)?, set(&of.held_out.plain, held)?);
        Ok(knn(&among, &asking, &options.knn)?.top1)
    });
    let [start, trained] = found;
    let compared = AgainstStart::new(ComparedBy::Knn, [start?, trained?], photos);
    Ok(Some(compared))
}
