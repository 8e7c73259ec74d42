//! How long a run is.

use candle_core::{Result, bail};

/// The length of a run, which schedules refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLength {
    /// Optimiser steps of the whole run.
    pub steps: u64,
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: u64,
}

impl RunLength {
    /// The epoch, from 0, that `step` belongs to.
    #[must_use]
    pub fn epoch(&self, step: u64) -> u64 {
        step / self.steps_per_epoch.max(1)
    }

    /// Checks that there is a step at all.
    ///
    /// # Errors
    /// No steps, or an epoch without steps.
    pub fn validate(&self) -> Result<()> {
        if self.steps == 0 || self.steps_per_epoch == 0 {
            bail!(
                "run length: {} steps, {} an epoch; expected both to be 1 or more",
                self.steps,
                self.steps_per_epoch
            );
        }
        Ok(())
    }
}
