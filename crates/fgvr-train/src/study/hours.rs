//! The hours that a study has before it, measured on a few steps and told before anything starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use fgvr_encoder::Backbone;
use fgvr_nn::Parameters;
use fgvr_report::{Align, Table};
use serde::{Deserialize, Serialize};

use super::figures;
use super::jobs::Job;
use super::judged::Judged;
use crate::plan::TRIED;
use crate::run_folder::write_atomically;
use crate::{Compute, Error, Observer, PretrainConfig, Result, Silent, digest, plan};

/// The file of what was measured, in the study's folder.
const HOURS: &str = "hours.json";

/// An arm is not measured where all steps that it has to do are not so many times those that are tried: that would cost more
/// than it tells.
const WORTH: u64 = 10;

/// Images a forward pass that is timed.
const BATCH: usize = 16;

/// What a study has before it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hours {
    /// One for each arm that has something to do.
    pub arms: Vec<ArmHours>,
    /// Hours of all that was measured.
    pub hours: f64,
    /// Whether a signal ended the measuring.
    pub interrupted: bool,
}

/// What one arm has before it on one data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmHours {
    /// The data set.
    pub data: String,
    /// The arm, or `start`.
    pub arm: String,
    /// Runs to do or to judge.
    pub runs: usize,
    /// Seconds of training a run that is not trained yet; `None` where it was not measured.
    pub training: Option<f64>,
    /// Seconds of evaluating and judging a run; `None` where it was not measured, and of frozen arms, which take seconds.
    pub judging: Option<f64>,
    /// Hours of all its runs.
    pub hours: f64,
}

/// What was measured of an arm, for all of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Measured {
    /// Seconds of training a run.
    training: f64,
    /// Seconds of embedding an image.
    image: f64,
    /// Images of the training, validation and test split.
    images: [usize; 3],
}

impl Hours {
    /// Measures what `jobs` have to do, but what `out` says of an earlier measurement. Arms whose runs are short are left out
    /// unless `all` are to be measured.
    ///
    /// # Errors
    /// What would stop a run at its start.
    pub(super) fn of(
        jobs: &[Job],
        (out, all): (&Path, bool),
        compute: &Compute,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut cache = Cache::open(out)?;
        let mut arms: Vec<ArmHours> = Vec::new();
        let mut interrupted = false;
        for job in jobs.iter().filter(|job| !job.is_done()) {
            let known = |arm: &ArmHours| (&arm.data, &arm.arm) == (&job.data, &job.arm);
            if arms.iter().any(known) {
                continue;
            }
            if observer.should_stop() {
                interrupted = true;
                break;
            }
            arms.push(one(jobs, job, all, &mut cache, compute, observer)?);
        }
        cache.judging_of_starts(jobs, &mut arms);
        Ok(Self {
            hours: arms.iter().map(|arm| arm.hours).sum(),
            arms,
            interrupted,
        })
    }

    /// Whether anything was measured.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        let mut arms = self.arms.iter();
        arms.any(|arm| arm.training.is_some() || arm.judging.is_some())
    }

    /// A row an arm, and one for all.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("data", Align::Left),
            ("arm", Align::Left),
            ("runs", Align::Right),
            ("training, min a run", Align::Right),
            ("judging, min a run", Align::Right),
            ("hours", Align::Right),
        ]);
        let minutes = |s: Option<f64>| s.map_or("-".to_owned(), |s| format!("{:.1}", s / 60.));
        for arm in &self.arms {
            table.push([
                arm.data.clone(),
                arm.arm.clone(),
                arm.runs.to_string(),
                minutes(arm.training),
                minutes(arm.judging),
                format!("{:.2}", arm.hours),
            ]);
        }
        let runs: usize = self.arms.iter().map(|arm| arm.runs).sum();
        let hours = format!("{:.2}", self.hours);
        table.row(["all", "", &runs.to_string(), "", "", &hours])
    }
}

/// What `first` and the other runs of its arm have to do.
fn one(
    jobs: &[Job],
    first: &Job,
    all: bool,
    cache: &mut Cache,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<ArmHours> {
    let alike = |job: &&Job| (&job.data, &job.arm) == (&first.data, &first.arm);
    let arm: Vec<&Job> = jobs.iter().filter(alike).collect();
    let to_do: Vec<&&Job> = arm.iter().filter(|job| !job.is_done()).collect();
    let untrained = to_do.iter().filter(|job| job.is_run() && !job.is_trained());
    let untrained = untrained.count();
    // What was done before says most.
    let mut training = mean(arm.iter().filter(|job| job.is_trained()).map(|job| {
        let figures = figures::read(job)?;
        Ok(Some(figures.seconds))
    }))?;
    let mut judging = mean(arm.iter().map(|job| {
        let judged = Judged::read(&job.folder)?;
        Ok(judged.map(|judged| judged.seconds))
    }))?;
    let config = first.config();
    let is_short = config.optimizer.steps.is_some_and(|steps| {
        let tried = if config.pairs().nu > 0. {
            2 * TRIED
        } else {
            TRIED
        };
        steps * (untrained as u64) < WORTH * tried
    });
    let measures = first.is_run() && untrained > 0 && training.is_none() && (all || !is_short);
    if measures {
        let measured = cache.measured(first, compute, observer)?;
        training = Some(measured.training);
        let twice = first.is_judged_twice();
        let judged = if twice { measured.judging(config) } else { 0. };
        judging = judging.or(Some(measured.evaluating() + judged));
    }
    let seconds = untrained as f64 * training.unwrap_or_default()
        + to_do.len() as f64 * judging.unwrap_or_default();
    Ok(ArmHours {
        data: first.data.clone(),
        arm: first.arm.clone(),
        runs: to_do.len(),
        training: training.filter(|_| untrained > 0),
        judging,
        hours: seconds / 3600.,
    })
}

/// The mean of those that are there.
fn mean(values: impl Iterator<Item = Result<Option<f64>>>) -> Result<Option<f64>> {
    let values: Vec<Option<f64>> = values.collect::<Result<_>>()?;
    let there: Vec<f64> = values.into_iter().flatten().collect();
    Ok((!there.is_empty()).then(|| there.iter().sum::<f64>() / there.len() as f64))
}

impl Measured {
    fn new(config: &PretrainConfig, compute: &Compute) -> Result<Self> {
        let planned = plan(config, compute, &mut Silent)?;
        Ok(Self {
            training: planned.seconds,
            image: embedding(config, compute)?,
            images: planned.images,
        })
    }

    /// Seconds of evaluating a run beside its start, as far as embedding goes.
    fn evaluating(&self) -> f64 {
        2. * self.image * self.images.iter().sum::<usize>() as f64
    }

    /// Seconds of judging features with the closed form, as far as embedding goes.
    fn judging(&self, config: &PretrainConfig) -> f64 {
        let [train, val, test] = self.images.map(|images| images as f64);
        let held_out = val.min(config.adapt.held_out_max as f64);
        self.image * (train * (1 + config.adapt.views) as f64 + 5. * held_out + test)
    }
}

/// Seconds that a frozen network of random weights takes for an image; the weights do not matter.
fn embedding(config: &PretrainConfig, compute: &Compute) -> Result<f64> {
    let parameters = Parameters::new(0);
    let builder = parameters.builder(DType::F32, &Device::Cpu);
    let encoder = Backbone::new(&config.encoder, builder)?.on(compute.device().cloned());
    let encoder = encoder.freeze()?;
    let (batch, side) = (config.evaluate.batch.clamp(1, BATCH), config.data.size);
    let images = Tensor::zeros((batch, 3, side, side), DType::F32, &Device::Cpu)?;
    // The first pass fills buffers.
    encoder.embed(&images)?;
    let since = Instant::now();
    encoder.embed(&images)?;
    Ok(since.elapsed().as_secs_f64() / batch as f64)
}

/// What was measured earlier, by a digest of all that it depends on.
struct Cache<'a> {
    out: &'a Path,
    measured: BTreeMap<String, Measured>,
    /// The last that was asked for, by data set.
    latest: BTreeMap<String, Measured>,
}

impl<'a> Cache<'a> {
    /// What `out` has; a file that cannot be understood is made anew.
    fn open(out: &'a Path) -> Result<Self> {
        let path = out.join(HOURS);
        let measured = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        Ok(Self {
            out,
            measured,
            latest: BTreeMap::new(),
        })
    }

    /// Gives the start of each data set the seconds that follow from what an arm there was measured at.
    fn judging_of_starts(&self, jobs: &[Job], arms: &mut [ArmHours]) {
        for arm in arms.iter_mut().filter(|arm| arm.judging.is_none()) {
            let alike = |job: &&Job| (&job.data, &job.arm) == (&arm.data, &arm.arm);
            let start = jobs.iter().find(alike).filter(|job| job.is_start());
            let Some((start, measured)) = start.zip(self.latest.get(&arm.data)) else {
                continue;
            };
            let seconds = measured.judging(start.config());
            (arm.judging, arm.hours) = (Some(seconds), seconds / 3600.);
        }
    }

    fn measured(
        &mut self,
        job: &Job,
        compute: &Compute,
        observer: &mut dyn Observer,
    ) -> Result<Measured> {
        let config = PretrainConfig {
            name: String::new(),
            seed: 0,
            ..job.config().clone()
        };
        let text = format!("{}\n{}", config.to_toml()?, compute.line());
        let key = format!(
            "{}/{} {}",
            job.data,
            job.arm,
            digest::short(&digest::of_bytes(text.as_bytes()))
        );
        if let Some(measured) = self.measured.get(&key) {
            self.latest.insert(job.data.clone(), *measured);
            return Ok(*measured);
        }
        observer.on_phase(&format!(
            "timing a few steps of {} on {}",
            job.arm, job.data
        ));
        let measured = Measured::new(&config, compute)?;
        self.latest.insert(job.data.clone(), measured);
        self.measured.insert(key, measured);
        let path = self.out.join(HOURS);
        let bytes = serde_json::to_vec_pretty(&self.measured)
            .map_err(|e| Error::run(&path, e.to_string()))?;
        fs::create_dir_all(self.out).map_err(Error::io(self.out))?;
        write_atomically(&path, &bytes)?;
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::super::StudyConfig;
    use super::*;

    const STUDY: &str = r#"
name = "tiny"
seeds = [0, 1]
control = "base"
set = [
  "data.size=32", "data.lookalikes={families=2, species_per_family=2, train_images=32, val_images=8, test_images=8}",
  "loader.batch=8", "encoder.architecture=resnet10", "encoder.width=4", "encoder.stem=small", "moco.hidden=16",
  "moco.dim=8", "moco.queue=16", "optimizer.steps=STEPS",
]
[[data]]
name = "birds"
source = "builtin:lookalikes"
[[arm]]
name = "base"
set = ["arm=base"]
"#;

    /// Counts what is measured.
    #[derive(Default)]
    struct Timed(usize);

    impl Observer for Timed {
        fn on_phase(&mut self, name: &str) {
            self.0 += usize::from(name.starts_with("timing"));
        }
    }

    fn hours(steps: &str, all: bool, out: &Path) -> (Hours, usize) {
        let study = StudyConfig::parse(&STUDY.replace("STEPS", steps), "s.toml").unwrap();
        let jobs = study.jobs(out, &mut Silent).unwrap();
        let mut timed = Timed::default();
        let hours = Hours::of(&jobs, (out, all), &Compute::cpu(), &mut timed).unwrap();
        (hours, timed.0)
    }

    #[test]
    fn an_arm_is_measured_once_and_a_short_one_only_if_asked_for() {
        let out = tempfile::tempdir().unwrap();
        let (short, timed) = hours("4", false, out.path());
        assert_eq!((short.is_measured(), short.hours, timed), (false, 0., 0));
        let (first, timed) = hours("4", true, out.path());
        assert_eq!((first.arms[0].runs, timed), (2, 1));
        let seconds = first.arms[0].training.unwrap() + first.arms[0].judging.unwrap();
        assert!((first.hours - 2. * seconds / 3600.).abs() < 1e-12);
        let (again, timed) = hours("4", true, out.path());
        assert_eq!((again, timed), (first, 0));
        // Nothing is known about other settings.
        let (long, timed) = hours("400", false, out.path());
        assert_eq!(timed, 1);
        let text = long.table().to_string();
        assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    }
}
