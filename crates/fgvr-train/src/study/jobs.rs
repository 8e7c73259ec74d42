//! The work of a study: which is done, which is next, and that no two processes do one piece.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::StudyConfig;
use super::config::START;
use super::judged::JUDGED;
use super::judging::{Of, judge};
use crate::run_folder::write_atomically;
use crate::{Compute, Error, Observer, Place, PretrainConfig, Result, ResumeOptions, RunFolder};

/// One piece of a study's work: a run, or a judgement of what takes no training.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its data set's name.
    pub data: String,
    /// Its arm's name, or `start`.
    pub arm: String,
    /// Its seed; `None` where its figures are the same for all.
    pub seed: Option<u64>,
    /// Its run folder, or the folder of its judgement.
    pub folder: PathBuf,
    work: Work,
    config: PretrainConfig,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// A run, whose features are judged in both forms or only by the run itself.
    Run { closed_form: bool },
    /// The start is judged in both forms.
    Start,
    /// A closed form of an arm's own is fitted to the start's features and judged.
    Frozen,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has been judged, now or earlier.
    Done,
    /// Another process has it in hand.
    Elsewhere,
    /// A signal ended it; it is saved.
    Interrupted,
}

impl StudyConfig {
    /// All work: of a study with closed forms first the starts; then seed by seed, so that a study cut short still compares
    /// what it has. Weights are opened for what they bring.
    ///
    /// # Errors
    /// A setting that is unknown or out of range; arms of unequal budgets; weights that cannot be opened; closed forms on
    /// a data set without weights.
    pub fn jobs(&self, out: &Path, observer: &mut dyn Observer) -> Result<Vec<Job>> {
        let mut bases = Vec::new();
        let mut jobs = Vec::new();
        for data in &self.data {
            if self.closed_form && data.weights.is_none() {
                return Err(Error::config(
                    format!("data {}", data.name),
                    "has no weights, and closed_form = true judges what pretrained weights start from; give it weights = \
                     \"SRC\", or give all --weights SRC",
                ));
            }
            let base = self.base(data, observer)?;
            if data.weights.is_some() {
                self.equal_budgets(data, &base, "study")?;
            }
            if self.closed_form {
                jobs.push(Job {
                    data: data.name.clone(),
                    arm: START.to_owned(),
                    seed: None,
                    folder: out.join(&data.name).join(START),
                    work: Work::Start,
                    config: self.resolve_frozen(&base, (data, None), 0)?,
                });
            }
            bases.push(base);
        }
        for (number, seed) in self.seeds.iter().enumerate() {
            for (data, base) in self.data.iter().zip(&bases) {
                for arm in &self.arm {
                    let folder = out.join(&data.name).join(&arm.name);
                    let of = (data, arm);
                    let is_seeded = !arm.frozen || self.is_seeded(base, of)?;
                    if number > 0 && !is_seeded {
                        continue;
                    }
                    let name = match is_seeded {
                        true => format!("seed-{seed}"),
                        false => "all-seeds".to_owned(),
                    };
                    jobs.push(Job {
                        data: data.name.clone(),
                        arm: arm.name.clone(),
                        seed: is_seeded.then_some(*seed),
                        folder: folder.join(name),
                        work: match (arm.frozen, self.closed_form) {
                            (true, _) => Work::Frozen,
                            (false, closed_form) => Work::Run { closed_form },
                        },
                        config: match arm.frozen {
                            true => self.resolve_frozen(base, (data, Some(arm)), *seed)?,
                            false => self.resolve_over(base, of, *seed)?,
                        },
                    });
                }
            }
        }
        Ok(jobs)
    }
}

impl Job {
    /// Whether its figures are there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let is_judged = || self.folder.join(JUDGED).is_file();
        match self.work {
            Work::Run { closed_form } => self.is_trained() && (!closed_form || is_judged()),
            Work::Start | Work::Frozen => is_judged(),
        }
    }

    /// Whether it is a run that has ended, with its own figures.
    #[must_use]
    pub fn is_trained(&self) -> bool {
        self.is_run() && self.folder.join("eval.json").is_file()
    }

    /// Whether it is a run, rather than a judgement of what takes no training.
    #[must_use]
    pub fn is_run(&self) -> bool {
        matches!(self.work, Work::Run { .. })
    }

    /// Whether the start of its data set is judged.
    pub(super) fn is_start(&self) -> bool {
        self.work == Work::Start
    }

    /// Whether it is judged with the closed form beside a run's own figures.
    pub(super) fn is_judged_twice(&self) -> bool {
        self.work == Work::Run { closed_form: true }
    }

    /// Its settings; of what takes no training, those that its figures depend on.
    #[must_use]
    pub fn config(&self) -> &PretrainConfig {
        &self.config
    }

    /// What it is, for people.
    pub(super) fn line(&self) -> String {
        let seed = self.seed.map(|seed| format!(", seed {seed}"));
        format!("{}, {}{}", self.data, self.arm, seed.unwrap_or_default())
    }

    /// The folder of the start of its data set, where the start's features are.
    fn start(&self) -> PathBuf {
        let mut data = self.folder.ancestors();
        let levels = match self.work {
            Work::Start => 1,
            Work::Run { .. } | Work::Frozen => 2,
        };
        let data = data.nth(levels);
        data.unwrap_or(Path::new(".")).join(START)
    }

    /// Runs it, or goes on with it, unless it is done or in another process's hands.
    ///
    /// # Errors
    /// A run in its place that was made with other settings; data that cannot be read, settings that do not fit it, an alarm whose policy is to stop.
    pub fn run(&self, compute: &Compute, observer: &mut dyn Observer) -> Result<Outcome> {
        let parent = self.folder.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let lock_path = match (self.is_run(), self.seed) {
            (true, Some(seed)) => parent.join(format!(".seed-{seed}.lock")),
            // All that is made of the features of one start, one after the other.
            _ => self.start().with_file_name(".start.lock"),
        };
        let lock = File::create(&lock_path).map_err(Error::io(&lock_path))?;
        // The system lets go of it when the process ends, however it ends.
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Outcome::Elsewhere),
            Err(TryLockError::Error(source)) => return Err(Error::io(&lock_path)(source)),
        }
        if self.folder.exists() {
            self.same_settings()?;
        }
        if self.is_done() {
            return Ok(Outcome::Done);
        }
        let is_done = match self.work {
            Work::Run { closed_form } => {
                self.train(compute, observer)?
                    && (!closed_form || {
                        let run = RunFolder::open(&self.folder)?;
                        let folders = [self.folder.as_path(); 2];
                        judge(Of::Run(&run), &self.config, folders, compute, observer)?
                    })
            }
            Work::Start => self.judge_start(Of::Start, compute, observer)?,
            Work::Frozen => self.judge_start(Of::Frozen, compute, observer)?,
        };
        Ok(match is_done {
            true => Outcome::Done,
            false => Outcome::Interrupted,
        })
    }

    /// Trains, or goes on, until the run has its own figures; false after a signal.
    fn train(&self, compute: &Compute, observer: &mut dyn Observer) -> Result<bool> {
        if self.is_trained() {
            return Ok(true);
        }
        let summary = if self.folder.join("checkpoints/last").is_file() {
            let run = RunFolder::open(&self.folder)?;
            crate::resume(&run, &ResumeOptions::default(), compute, observer)?
        } else {
            // Begun and left before its first checkpoint: nothing in it is worth keeping.
            if self.folder.exists() {
                fs::remove_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
            }
            let place = Place::Folder(self.folder.clone());
            crate::pretrain(&self.config, &place, compute, observer)?
        };
        Ok(!summary.interrupted)
    }

    /// Judges what the start's features come to; what is embedded for that stays with the start.
    fn judge_start(
        &self,
        of: Of<'_>,
        compute: &Compute,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let start = self.start();
        for folder in [&self.folder, &start] {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let settings = self.folder.join("config.toml");
        write_atomically(&settings, self.config.to_toml()?.as_bytes())?;
        judge(of, &self.config, [&self.folder, &start], compute, observer)
    }

    /// What stands in the job's place was made with the job's settings.
    ///
    /// # Errors
    /// It was made with others.
    pub fn same_settings(&self) -> Result<()> {
        let path = self.folder.join("config.toml");
        if !path.is_file() || !(self.is_run() || self.is_done()) {
            return Ok(());
        }
        let found = match self.work {
            Work::Run { .. } => RunFolder::open(&self.folder)?.config()?,
            // What takes no training has no setting of a training to check.
            Work::Start | Work::Frozen => {
                let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
                toml::from_str(&text).map_err(|error| Error::run(&path, error.to_string()))?
            }
        };
        match found.first_difference(&self.config)? {
            None => Ok(()),
            Some((key, was, is)) => Err(Error::run(
                &self.folder,
                format!(
                    "was made with {key} = {was}, and the study asks for {is}; give the study \
                     another --out, or set it back"
                ),
            )),
        }
    }
}
