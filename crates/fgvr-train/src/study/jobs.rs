//! The runs of a study: which are done, which is next, and that no two processes do one.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::StudyConfig;
use crate::{Compute, Error, Observer, Place, PretrainConfig, Result, ResumeOptions, RunFolder};

/// One run of a study.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its data set's name.
    pub data: String,
    /// Its arm's name.
    pub arm: String,
    /// Its seed.
    pub seed: u64,
    /// Its run folder.
    pub folder: PathBuf,
    config: PretrainConfig,
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
    /// All runs, seed by seed, so that a study cut short still compares what it has.
    ///
    /// # Errors
    /// A setting that is unknown or out of range.
    pub fn jobs(&self, out: &Path) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for seed in &self.seeds {
            for data in &self.data {
                for arm in &self.arm {
                    let folder = out.join(&data.name).join(&arm.name);
                    jobs.push(Job {
                        data: data.name.clone(),
                        arm: arm.name.clone(),
                        seed: *seed,
                        folder: folder.join(format!("seed-{seed}")),
                        config: self.resolve(data, arm, *seed)?,
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
        self.folder.join("eval.json").is_file()
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &PretrainConfig {
        &self.config
    }

    /// Runs it, or goes on with it, unless it is done or in another process's hands.
    ///
    /// # Errors
    /// A run in its place that was made with other settings; data that cannot be read, settings that do not fit it, an alarm whose policy is to stop.
    pub fn run(&self, compute: &Compute, observer: &mut dyn Observer) -> Result<Outcome> {
        let parent = self.folder.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let lock_path = parent.join(format!(".seed-{}.lock", self.seed));
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
        Ok(if summary.interrupted {
            Outcome::Interrupted
        } else {
            Outcome::Done
        })
    }

    /// A run that stands in the job's place was made with the job's settings.
    ///
    /// # Errors
    /// It was made with others.
    pub fn same_settings(&self) -> Result<()> {
        if !self.folder.join("config.toml").is_file() {
            return Ok(());
        }
        let found = RunFolder::open(&self.folder)?.config()?;
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
