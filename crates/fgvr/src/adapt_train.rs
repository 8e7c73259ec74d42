//! `fgvr adapt --train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use fgvr_train::adapt::{adapt_trained, check_export};
use fgvr_train::{
    AdaptOptions, Embedder, Error, Observer, Which, careful_config, path_text, train_carefully,
};

use crate::adapt::{finish, parent, settings};
use crate::adapt_args::Adapt;
use crate::commands::chosen;
use crate::output::say;
use crate::progress::Progress;
use crate::signals::{INTERRUPTED, stop_on_signal};
use crate::weights::format;

/// Settings that adapting knows; all others are for the training, and those of how photos are found and seen for both.
const ADAPTING: [&str; 5] = ["adapt", "data", "normalisation", "evaluate", "encoder"];

pub(crate) fn adapt_train(args: &Adapt, out: &Path) -> Result<ExitCode> {
    let source = args.network.weights.as_deref().context("give --weights")?;
    let all = settings(args)?;
    let adapting = |setting: &String| {
        let section = setting.split(['.', '=']).next().unwrap_or_default().trim();
        ADAPTING.contains(&section)
    };
    let (ours, _): (Vec<String>, Vec<String>) = all.iter().cloned().partition(adapting);
    let (mut options, mut others) = AdaptOptions::split(&ours)?;
    options.work = Some(parent(out).to_owned());
    let compute = chosen(&args.place)?;
    let mut progress = Progress::new(stop_on_signal()?);
    let config = careful_config(source, &args.data, &all, &mut progress)?;
    // The photos that training keeps apart are those that the gate asks.
    for (key, value) in [
        ("val_fraction", config.data.val_fraction),
        ("test_fraction", config.data.test_fraction),
    ] {
        others.push(format!("data.{key}={value}"));
    }
    let weights = fgvr_train::open_weights(source, &mut progress)?;
    let (start, _) = Embedder::plain_from_weights_with(
        &weights,
        &others,
        &args.network.allow_mismatch,
        &compute,
    )?;
    check_export(&start, format(args.format))?;
    progress.on_message(&format!("photos seen {}", start.preprocessing()));
    progress.on_message(&format!(
        "training: {}, {}",
        config.method(),
        config.recipe()
    ));
    let stopped = |error: Error| match error {
        Error::Stopped { problem } => {
            say(&problem);
            Ok(ExitCode::from(INTERRUPTED))
        }
        error => Err(error.into()),
    };
    let folder = beside(out);
    let trained = train_carefully(&config, &folder, &compute, &mut progress);
    let (run, seconds) = match trained {
        Ok(trained) => trained,
        Err(error) => return stopped(error),
    };
    // A run knows its network.
    others.retain(|setting| !setting.trim_start().starts_with("encoder."));
    let trained = Embedder::from_run_with(&run, Which::Last, &others, &compute)?;
    let (start, trained) = match args.place.batch {
        Some(batch) => (start.with_batch(batch)?, trained.with_batch(batch)?),
        None => (start, trained),
    };
    let both = [start, trained];
    let of_run = (&run, &config, seconds);
    match adapt_trained(both, of_run, &options, &mut progress) {
        Ok((adapted, embedder)) => {
            say(&format!("the training: {}", path_text(&folder)));
            finish(args, &adapted, &embedder, out)
        }
        Err(error) => stopped(error),
    }
}

/// The run folder of the training: beside the folder that is written in the end.
fn beside(out: &Path) -> PathBuf {
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{name}-training"))
}
