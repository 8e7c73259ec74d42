//! That the runs of a study are trained on the same photos, however long it takes.

use std::fs;

use serde::Deserialize;

use super::Job;
use crate::data::{Compared, Data, is_built_in};
use crate::{DataRecord, Error, Observer, Result, RunFolder};

/// The part of a run's `env.json` that says what it is trained on.
#[derive(Deserialize)]
struct Environment {
    data: Option<DataRecord>,
}

/// Looks at the data of `job`, which is to be run: it is what those runs among `jobs` were trained on that are there and
/// take the same data in the same way. Runs of versions that did not remember their data are passed over.
///
/// # Errors
/// It is not, and what changed.
pub(super) fn check(jobs: &[Job], job: &Job, observer: &mut dyn Observer) -> Result<()> {
    let config = job.config();
    if is_built_in(&config.source) {
        return Ok(());
    }
    let alike = |other: &&Job| {
        let other = other.config();
        other.source == config.source && other.data == config.data
    };
    let there = jobs.iter().filter(alike);
    let there: Vec<_> = there.filter_map(remembered).collect();
    if there.is_empty() {
        return Ok(());
    }
    let splits = fgvr_data::open(&config.source, &config.data)?;
    let now = Data::look(config, &splits, observer)?;
    for (run, record) in there {
        let compared = Compared::new(&run, (Some(&record), None), config, &now)?;
        if let Compared::Different(difference) = compared {
            return Err(Error::run(
                run.path(),
                format!(
                    "was trained on other data than {} holds now, and runs on both cannot be compared: {}; put it \
                     back, or give the study another --out",
                    config.source, difference.text
                ),
            ));
        }
    }
    Ok(())
}

/// A run that is there, and what it was trained on.
fn remembered(job: &Job) -> Option<(RunFolder, DataRecord)> {
    let run = RunFolder::open(&job.folder).ok()?;
    let environment = fs::read(run.join("env.json")).ok()?;
    let environment: Environment = serde_json::from_slice(&environment).ok()?;
    Some((run, environment.data?))
}
