//! Does it help, by how much, against which control, on these photos? Arms times seeds times data
//! sets at equal budgets, resumable, by one process or many.

mod compare;
mod comparison;
mod config;
mod elsewhere;
mod figures;
mod hours;
mod jobs;
mod judged;
mod judged_report;
mod judgements;
mod judging;
mod named;
mod page;
mod parts;
mod rank_correlation;
mod report;
mod same_data;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;

pub use compare::{Paired, Spread, Verdict};
pub use comparison::{Form, JudgedFigure, StudyCompare};
pub use config::{Choice, StudyArm, StudyConfig, StudyData};
pub use elsewhere::Elsewhere;
pub use figures::{METRICS, RunFigures};
pub use hours::{ArmHours, Hours};
pub use jobs::{Job, Outcome};
pub use judged::{JUDGED, Judged, JudgedRow, LabelFreeMeasures, QueryAnswers};
pub use judged_report::{JudgedReport, JudgedRowReport};
pub use named::Named;
pub use parts::{Hit, HitReport};
pub use rank_correlation::RankCorrelation;
pub use report::{ArmReport, DataReport, ReferenceReport, ScreenedReport, StudyReport};

use judgements::Judgements;

use crate::run_folder::write_atomically;
use crate::{Compute, Error, Observer, Result};

/// Named studies: name, what it asks, and its file.
pub const STUDIES: &[(&str, &str, &str)] = &[
    (
        "seeds",
        "does it help? SynthPair with its controls, LCR, LoDisc and combinations, beside the base alone",
        include_str!("../studies/seeds.toml"),
    ),
    (
        "ablation",
        "one choice of SynthPair turned at a time, beside the method as it is",
        include_str!("../studies/ablation.toml"),
    ),
    (
        "bases",
        "SynthPair on each base that carries it, beside the base alone",
        include_str!("../studies/bases.toml"),
    ),
];

/// How a study ended.
#[derive(Clone, Debug)]
pub struct StudyEnd {
    /// What the runs that are done say.
    pub report: StudyReport,
    /// Whether a signal ended it; every run is saved.
    pub interrupted: bool,
    /// Runs that other processes have in hand.
    pub elsewhere: usize,
}

/// The hours that a study has before it, by timing a few steps of every arm that has runs to do; nothing is begun. The
/// folder `out` remembers what was timed.
///
/// # Errors
/// What would stop a run at its start.
pub fn estimate(
    config: &StudyConfig,
    out: &Path,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Hours> {
    let jobs = config.jobs(out, observer)?;
    for job in &jobs {
        job.same_settings()?;
        compute.check(job.config().precision)?;
    }
    Hours::of(&jobs, (out, true), compute, observer)
}

/// Does the runs and judgements of a study that nobody has done or has in hand, and puts the figures of all that are
/// done into `study.json`, `study.md` and `study.html` of the folder `out`, beside the study itself in
/// `study.toml`. The same call again goes on where it
/// stopped; calls in several processes share the work. The observer hears first how many hours that takes, unless the runs
/// are so short that timing their steps would cost more than it tells.
///
/// # Errors
/// A run in the study's folder that was made with other settings or on other data; data that cannot be read, settings that do not fit it, an alarm whose policy is to stop.
pub fn study(
    config: &StudyConfig,
    out: &Path,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<StudyEnd> {
    let jobs = config.jobs(out, observer)?;
    // All of them, before any time is spent.
    for job in &jobs {
        job.same_settings()?;
        compute.check(job.config().precision)?;
    }
    std::fs::create_dir_all(out).map_err(Error::io(out))?;
    let text = toml::to_string_pretty(config).map_err(|e| Error::config("study", e.to_string()))?;
    write_atomically(&out.join("study.toml"), text.as_bytes())?;
    let hours = Hours::of(&jobs, (out, false), compute, observer)?;
    if hours.is_measured() {
        observer.on_message("the hours before it:");
        let table = hours.table().to_string();
        table.lines().for_each(|line| observer.on_message(line));
    }
    let (mut interrupted, mut elsewhere) = (hours.interrupted, 0);
    for (number, job) in jobs.iter().enumerate() {
        let what = format!("run {} of {}: {}", number + 1, jobs.len(), job.line());
        if job.is_done() {
            observer.on_message(&format!("{what}: done before"));
            continue;
        }
        if interrupted || observer.should_stop() {
            interrupted = true;
            break;
        }
        observer.on_message(&what);
        same_data::check(&jobs, job, observer)?;
        match job.run(compute, observer)? {
            Outcome::Done => {
                // A study that is cut short leaves the tables of what it has.
                write(config, out, &jobs)?;
            }
            Outcome::Elsewhere => {
                elsewhere += 1;
                observer.on_message(&format!("{what}: another process has it in hand"));
            }
            Outcome::Interrupted => {
                interrupted = true;
                break;
            }
        }
    }
    Ok(StudyEnd {
        report: write(config, out, &jobs)?,
        interrupted,
        elsewhere,
    })
}

/// The tables of all runs that are done, into the study's folder.
fn write(config: &StudyConfig, out: &Path, jobs: &[Job]) -> Result<StudyReport> {
    let (mut found, mut judgements) = (BTreeMap::new(), Judgements::default());
    for job in jobs {
        if let (true, Some(seed)) = (job.is_trained(), job.seed) {
            let key = (job.data.clone(), job.arm.clone(), seed);
            found.insert(key, figures::read(job)?);
        }
        if config.closed_form
            && let Some(judged) = Judged::read(&job.folder)?
        {
            judgements.add(&job.data, &job.arm, job.seed, judged);
        }
    }
    let done = jobs.iter().filter(|job| job.is_done()).count();
    let report = StudyReport::new(config, (&found, &judgements), [done, jobs.len()])?;
    let text = serde_json::to_vec_pretty(&report)
        .map_err(|e| Error::config("study.json", e.to_string()))?;
    write_atomically(&out.join("study.json"), &text)?;
    let mut markdown = format!("# {}\n\n{}\n", config.name, config.about);
    for (title, table) in report.tables() {
        markdown += &format!("\n## {title}\n\n{}", table.to_markdown());
    }
    write_atomically(&out.join("study.md"), markdown.as_bytes())?;
    let page = report.page(config, &page::decoded(jobs)?);
    page.write(&out.join("study.html"))?;
    Ok(report)
}
