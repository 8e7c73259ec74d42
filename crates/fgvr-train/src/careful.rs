//! `fgvr adapt --train`: the careful training before the closed form.

use std::path::Path;

use fgvr_data::DataConfig;

use crate::config::Layers;
use crate::pretrain::pretrain_with;
use crate::resume::{ResumeOptions, resume_with};
use crate::{Compute, Error, Observer, Place, PretrainConfig, Result, RunFolder, path_text};

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
/// Data that cannot be read, settings that do not fit it, an alarm whose policy is to stop; a folder that holds a run
/// of other settings; [`Error::Stopped`] where the observer asked for it.
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
