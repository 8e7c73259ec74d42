//! What the runs of a study came to, read from their own files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::jobs::Job;
use super::parts::{self, Hit};
use crate::{Error, JudgedOn, Result};

/// The figures that are compared: name, and where `eval.json` has it.
pub const METRICS: [(&str, [&str; 2]); 4] = [
    ("kNN", ["knn", "top1"]),
    ("linear", ["linear", "top1"]),
    ("rank 1", ["retrieval", "rank1"]),
    ("mAP", ["retrieval", "map"]),
];

/// What one run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunFigures {
    /// By the names of [`METRICS`], as fractions.
    pub trained: BTreeMap<&'static str, f64>,
    /// The same of screened features; empty without `lcr`.
    pub screened: BTreeMap<&'static str, f64>,
    /// The same of the weights it started from.
    pub start: BTreeMap<&'static str, f64>,
    /// The same of raw pixels.
    pub pixels: BTreeMap<&'static str, f64>,
    /// Hits of the parts that tell classes apart, where the set knows them.
    pub hits: Vec<Hit>,
    /// Whether the figures are of validation images, for want of test images with labels.
    pub on_validation: bool,
    /// Seconds of training, evaluation apart.
    pub seconds: f64,
    /// Online kNN on validation images over those seconds.
    pub validation: Vec<(f64, f64)>,
    /// Share of the steps at the pair loss's full weight.
    pub full_nu: f64,
}

/// The figures of a job that is done.
///
/// # Errors
/// A file of the run that cannot be read.
pub(super) fn read(job: &Job) -> Result<RunFigures> {
    let evaluation = json(&job.folder.join("eval.json"))?;
    let of = |kind: &str| -> BTreeMap<&'static str, f64> {
        let figure = |(name, [group, key]): (&'static str, [&str; 2])| {
            Some((name, evaluation[kind][group][key].as_f64()?))
        };
        METRICS.into_iter().filter_map(figure).collect()
    };
    let mut figures = RunFigures {
        trained: of("trained"),
        screened: of("screened"),
        hits: parts::hits(&evaluation),
        start: match evaluation["start"].is_null() {
            true => of("untrained"),
            false => of("start"),
        },
        pixels: of("pixels"),
        on_validation: evaluation["judged_on"] == JudgedOn::Validation.name(),
        ..RunFigures::default()
    };
    let images = (job.config().loader.batch * job.config().optimizer.accumulate) as f64;
    let path = job.folder.join("metrics.jsonl");
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let whole = job.config().pairs().nu;
    let (mut steps, mut full) = (0, 0);
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)
            .map_err(|e| Error::run(&path, format!("holds a line that is no JSON ({e})")))?;
        if let Some(speed) = row["images_per_second"].as_f64().filter(|v| *v > 0.) {
            figures.seconds += images / speed;
        }
        steps += 1;
        let nu = row["nu"].as_f64().unwrap_or(0.);
        full += usize::from(nu > 0. && nu >= whole);
        if let Some(knn) = row["val_knn"].as_f64() {
            figures.validation.push((figures.seconds, knn));
        }
    }
    figures.full_nu = f64::from(full as u32) / f64::from(steps.max(1));
    Ok(figures)
}

impl RunFigures {
    /// The last validation figure within `seconds` of training.
    #[must_use]
    pub fn validation_at(&self, seconds: f64) -> Option<f64> {
        let mut latest = self.validation.iter().rev();
        let within = latest.find(|(at, _)| *at <= seconds);
        within.map(|(_, knn)| *knn)
    }
}

fn json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::run(path, format!("is no JSON ({e}); run the job anew")))
}
