//! A run's encoder for other programs.

mod adapted;
mod card;

use std::path::{Path, PathBuf};

use fgvr_encoder::Overwrite;
use fgvr_encoder::export::{Export, Format};
use fgvr_nn::Parameters;
use serde::Serialize;

use crate::checkpoint::{Which, load_which};
use crate::config::PretrainConfig;
use crate::embedder::encoder_parameters;
use crate::interpolate::interpolated;
use crate::run_folder::{EXPORT, EXPORT_TRAINED};
use crate::start::{encoder_before, find_weights};
use crate::view::{Sight, preprocessing};
use crate::{Compute, Error, Result, RunFolder, Silent};

/// What is exported, and how.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Whose names the tensors get.
    pub format: Format,
    /// Which checkpoint.
    pub which: Which,
    /// The licence that the model card states, by its identifier.
    pub license: Option<String>,
    /// How far the weights are taken back toward those that the run started from, 0 to 1: with 0.5 they are the mean of both.
    pub toward_start: Option<f64>,
}

/// What was exported.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// The directory.
    #[serde(serialize_with = "crate::path_text::serialize")]
    pub directory: PathBuf,
    /// Optimiser steps that the run had done; absent for weights that are of no run.
    pub step: Option<u64>,
    /// Tensors in `model.safetensors`.
    pub tensors: usize,
    /// Why timm cannot build the network by itself, if so.
    pub obstacle: Option<String>,
    /// The kind of the adaptation that is folded in as the classifier layer, if one is.
    pub adaptation: Option<String>,
}

/// Writes the encoder of a run's checkpoint to a new directory: `model.safetensors`, `config.json`,
/// `preprocessor_config.json`, and a model card as `README.md`.
///
/// # Errors
/// A directory that is there, a run without that checkpoint, and an architecture that the format does
/// not have; with [`ExportOptions::toward_start`] a share out of range, and a run from random weights or whose start is not there
/// any more.
pub fn export_run(run: &RunFolder, directory: &Path, options: &ExportOptions) -> Result<Exported> {
    let mut config = run.config()?;
    let saved = load_which(run, options.which)?;
    let (step, parameters) = (
        saved.manifest.step,
        encoder_parameters(run, &config, &saved)?,
    );
    if let Some(share) = options.toward_start {
        find_weights(&mut config, saved.manifest.weights.as_deref());
        take_back(&config, &parameters, share)?;
    }
    write(
        run,
        &config,
        &parameters,
        Of::Trained { step },
        directory,
        options,
        Overwrite::Never,
    )
}

/// Sets `parameters` to weights between their own and the run's start: `share` of the latter.
///
/// # Errors
/// A share out of range; a run from random weights, or whose start is not there any more.
fn take_back(config: &PretrainConfig, parameters: &Parameters, share: f64) -> Result<()> {
    let key = "--toward-start";
    if !(0. ..=1.).contains(&share) {
        return Err(Error::config(
            key,
            format!("expected 0 to 1, found {share}"),
        ));
    }
    if config.weights.source.is_empty() {
        return Err(Error::config(
            key,
            "the run started from random weights, which no network is to go back to; leave it out",
        ));
    }
    let (_, start) = encoder_before(config, &Compute::cpu(), &mut Silent)?;
    let between = interpolated([&start, parameters], 1. - share)?;
    Ok(parameters.set_all(&between)?)
}

/// Whose weights an export holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// A run's own, after as many steps.
    Trained { step: u64 },
    /// Those it started from.
    Start,
}

/// Writes a run's own folders of weights, anew where a finished run is resumed: its encoder as `export/`, or, where
/// it ended below its `start`, that as `export/` and its encoder as `export-trained/`.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn export(
    run: &RunFolder,
    config: &PretrainConfig,
    (trained, step): (&Parameters, u64),
    start: Option<&Parameters>,
) -> Result<()> {
    let options = ExportOptions::default();
    let over = Overwrite::Replace;
    let trained = (trained, Of::Trained { step });
    let (better, worse) = match start {
        Some(start) => ((start, Of::Start), Some(trained)),
        None => (trained, None),
    };
    let beside = run.join(EXPORT_TRAINED);
    match worse {
        Some((parameters, of)) => {
            write(run, config, parameters, of, &beside, &options, over)?;
        }
        // It is from an end that does not count any more.
        None if beside.is_dir() => std::fs::remove_dir_all(&beside).map_err(Error::io(&beside))?,
        None => {}
    }
    let (parameters, of) = better;
    let directory = run.join(EXPORT);
    write(run, config, parameters, of, &directory, &options, over).map(drop)
}

fn write(
    run: &RunFolder,
    config: &PretrainConfig,
    parameters: &Parameters,
    of: Of,
    directory: &Path,
    options: &ExportOptions,
    overwrite: Overwrite,
) -> Result<Exported> {
    let view = preprocessing(&Sight::of(config));
    let export = Export::new(options.format, &config.encoder, parameters, &view)?;
    let card = card::card(run, config, &export, &view, of, options)?;
    export.save(directory, &card, overwrite)?;
    Ok(Exported {
        directory: directory.to_owned(),
        step: match of {
            Of::Trained { step } => Some(step),
            Of::Start => None,
        },
        tensors: export.tensors().len(),
        obstacle: export.obstacle().map(str::to_owned),
        adaptation: None,
    })
}
