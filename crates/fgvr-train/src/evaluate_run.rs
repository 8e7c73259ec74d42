//! A run, judged again.

use fgvr_data::Splits;

use crate::checkpoint::{self, Saved};
use crate::config::{PretrainConfig, Use};
use crate::data::{Compared, Data, Located, UNKNOWN, open_data};
use crate::embedder::at_least_one;
use crate::evaluate::{Evaluation, evaluate};
use crate::restored::Restored;
use crate::start::find_weights;
use crate::{Compute, Error, Observer, Result, RunFolder};

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

/// Judges the encoder of a run's last checkpoint with `settings`, each `key.path=value`, over those of the run; `source` and
/// `batch` are those of [`evaluate_run`].
///
/// # Errors
/// A run without checkpoint, or data that cannot be read; a setting that is unknown or has no effect on evaluation.
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
        if !config.evaluate.fine_tune.fractions.is_empty() {
            let problem = "is made of weights: export the run, and give the export to --weights";
            return Err(Error::config("--fine-tune", problem));
        }
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
    let networks = (&restored.networks()?, compute);
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
    match Compared::new(run, (record, saved.settings.as_ref()), config, &data)? {
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
