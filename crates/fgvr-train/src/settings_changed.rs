//! Whether `config.toml` is still what a checkpoint was made with.

use std::fmt::Display;

use crate::checkpoint::{self, Saved, Which};
use crate::config::PretrainConfig;
use crate::{Error, Result, RunFolder};

/// Settings that are told, of those that were changed.
const TOLD: usize = 6;

/// What differs between a run's `config.toml` and the settings that a checkpoint of it was made with, on one line for a
/// person; `None` where nothing does, and for a checkpoint of a version that did not keep its settings.
///
/// # Errors
/// A run without that checkpoint, or one that is damaged.
pub fn settings_changed(run: &RunFolder, which: Which) -> Result<Option<String>> {
    let (manifest, saved) = checkpoint::read_which(run, which)?;
    since(manifest.step, saved.as_ref(), &run.config()?)
}

impl Saved {
    /// What changed from the settings it was made with to `config`, in words; `None` where nothing did.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn settings_changed(&self, config: &PretrainConfig) -> Result<Option<String>> {
        since(self.manifest.step, self.settings.as_ref(), config)
    }

    /// What to say of tensors that do not fit the settings in `config`, those of `run`.
    pub(crate) fn unfit(
        &self,
        run: &RunFolder,
        config: &PretrainConfig,
        error: impl Display,
    ) -> Error {
        // Only its first line: candle's errors bring a backtrace along where one is asked for.
        let text = error.to_string();
        let problem = text.lines().next().unwrap_or_default();
        let changed = match self.settings_changed(config) {
            Ok(Some(changed)) => format!("{changed}; put it back"),
            Ok(None) | Err(_) => "was the file changed?".to_owned(),
        };
        Error::checkpoint(
            &run.join("checkpoints"),
            format!("does not fit the settings in config.toml ({problem}); {changed}"),
        )
    }
}

fn since(
    step: u64,
    saved: Option<&PretrainConfig>,
    config: &PretrainConfig,
) -> Result<Option<String>> {
    let Some(saved) = saved else {
        return Ok(None);
    };
    // Where the data lies says nothing of what it is, and that is looked at by itself.
    let all = saved.differences(config)?.into_iter();
    let changed: Vec<String> = all
        .filter(|(key, ..)| key != "source")
        .map(|(key, was, is)| format!("{key} was {was}, is {is}"))
        .collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let mut told = changed[..changed.len().min(TOLD)].join("; ");
    if changed.len() > TOLD {
        told += &format!("; and {} more", changed.len() - TOLD);
    }
    Ok(Some(format!(
        "config.toml was changed since step {step}: {told}"
    )))
}
