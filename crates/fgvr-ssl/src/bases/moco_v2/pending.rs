//! Keys of a step, which enter the queue only after it.

use candle_core::Result;

use crate::{Found, KeyQueue, Pass, Rows};

/// Keys of a pass and their images.
pub(super) struct PendingKeys {
    pub(super) keys: Rows,
    pub(super) images: Vec<u32>,
    /// What the pass found that they were the keys of.
    pub(super) found: Option<Found>,
}

impl PendingKeys {
    pub(super) fn of(pass: &Pass, images: &[u32]) -> Self {
        Self {
            keys: pass.keys.clone(),
            images: images.to_vec(),
            found: Some(pass.found.measured()),
        }
    }

    pub(super) fn enter(self, queue: &mut KeyQueue) -> Result<()> {
        // A key that is not finite makes its pass's loss so, which the caller has waited for by now.
        let known = match (&self.keys, &self.found) {
            (Rows::Device(_), Some(found)) => found.numbers()?.loss.is_finite(),
            _ => false,
        };
        queue.push(&self.keys, &self.images, known)
    }
}
