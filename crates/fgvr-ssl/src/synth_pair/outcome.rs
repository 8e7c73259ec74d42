//! What a pair gave, until its numbers are there.

use candle_core::Result;

use super::masked::Stats;
use crate::diagnostics::PairDiagnostics;
use crate::values::Scalar;
use crate::{Found, Rows};

/// What a pair gave.
pub(super) struct Outcome {
    pub(super) found: Found,
    pub(super) stats: Stats,
    /// mean |x̂ - x̃| and mean |x - x̂|.
    pub(super) distances: [Scalar; 2],
    /// Pooled features (N, C) of query and key.
    pub(super) features: [Rows; 2],
}

impl Outcome {
    /// The loss and what to watch of the pair.
    pub(super) fn numbers(&self) -> Result<(f64, PairDiagnostics)> {
        let found = self.found.numbers()?;
        let [changed, error] = &self.distances;
        let difference = changed.value()? / error.value()?.max(f64::MIN_POSITIVE);
        let [query, key] = &self.features;
        let diagnostics = PairDiagnostics::new(
            self.stats.value()?,
            difference,
            [&query.to_host()?, &key.to_host()?],
            (found.top1, found.negative),
        )?;
        Ok((found.loss, diagnostics))
    }
}
