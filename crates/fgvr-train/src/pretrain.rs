//! A run, started.

use fgvr_data::Found;

use crate::config::PretrainConfig;
use crate::data::{Data, open_data};
use crate::positives::Positives;
use crate::session::{Origin, Session, Summary};
use crate::teacher::Teacher;
use crate::weights_source::{from_root, open_weights};
use crate::{Compute, Error, Observer, Place, Result, RunFolder, Trainer};

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

/// Trains into a fresh run folder; the run ends with its last checkpoint if it is not to be judged.
///
/// # Errors
/// Data that cannot be read, settings that do not fit it, an alarm whose policy is to stop.
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
    let teacher = Teacher::find(config, &splits, compute, observer)?;
    let rows = teacher
        .as_ref()
        .map(|teacher| teacher.rows(splits.train.as_ref()));
    let rows = rows.transpose()?;
    let (trainer, loaded) = if config.weights.source.is_empty() {
        let trainer = Trainer::taught(config, images, rows.as_ref(), compute)?;
        (trainer, None)
    } else {
        let weights = open_weights(&config.weights.source, observer)?;
        let how = (compute, rows.as_ref());
        let (trainer, report) = Trainer::taught_from(config, images, &weights, how)?;
        (trainer, Some(report))
    };
    let data = Data::look(config, &splits, observer)?;
    let positives = Positives::find(config, &splits, || trainer.freeze(), observer)?;
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
        if let Some(positives) = &positives {
            positives.keep(&run, splits.train.as_ref())?;
        }
        if let Some(teacher) = &teacher {
            teacher.keep(&run)?;
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
    session.positives = positives;
    if let Some(teacher) = &teacher {
        session.say(observer, &teacher.line())?;
    }
    if let Some(report) = &loaded {
        session.say(observer, &report.to_string())?;
    }
    for warning in config.start_warnings() {
        session.say(observer, &warning)?;
    }
    session.run(observer)
}

/// What was found of the data, for the log; the observer was told when it was opened.
pub(crate) fn log_data(run: &RunFolder, found: &Found) -> Result<()> {
    found.lines().iter().try_for_each(|line| run.log(line))
}
