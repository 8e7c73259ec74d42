//! What a pair gave, until its numbers are there.

use candle_core::Result;

use super::masked::Stats;
use crate::losses::info_nce::scalar;
use crate::step::values::Scalar;
use crate::{Found, Rows, l2_normalise};

/// What a pair gave.
pub(super) struct Outcome {
    pub(super) found: Found,
    pub(super) stats: Stats,
    /// mean |x̂ - x̃| and mean |x - x̂|, before the pair's augmentation; of pairs of features mean |h - h̃|
    /// and mean |h|.
    pub(super) distances: [Scalar; 2],
    /// Pooled features (N, C) of query and key.
    pub(super) features: [Rows; 2],
}

/// A number and its name in records; `None` where there is nothing to say yet.
pub(super) type Named = (&'static str, Option<f64>);

impl Outcome {
    /// L_Cp, and then what to watch of the pair.
    pub(super) fn numbers(&self) -> Result<[Named; 9]> {
        let found = self.found.numbers()?;
        let mask = self.stats.value()?;
        let [changed, error] = &self.distances;
        let [query, key] = &self.features;
        let (query, key) = (
            l2_normalise(&query.to_host()?.detach())?,
            l2_normalise(&key.to_host()?)?,
        );
        let same = (&query * &key)?.sum(1)?;
        let n = same.dim(0)?;
        // The sum of the products of all pairs is the product of the sums.
        let all = scalar(&(query.sum(0)? * key.sum(0)?)?.sum_all()?)?;
        let sum = scalar(&same.sum_all()?)?;
        let difference = changed.value()? / error.value()?.max(f64::MIN_POSITIVE);
        // Against an empty queue every pair is found: no figure yet.
        let top1 = found.negative.map(|_| found.top1);
        // A batch of one has no others.
        let others = (n > 1).then(|| (all - sum) / (n * (n - 1)) as f64);
        Ok([
            (super::PAIR, Some(found.loss)),
            ("masked_fraction", Some(mask.fraction)),
            ("mask_overlap", Some(mask.overlap)),
            ("masked_constant", Some(mask.constant)),
            ("pair_top1", top1),
            ("pair_negative", found.negative),
            ("pair_difference", Some(difference)),
            ("pair_same_cosine", Some(sum / n as f64)),
            ("pair_other_cosine", others),
        ])
    }

    /// The mean over the pairs of all branches, of those numbers that all have.
    pub(super) fn mean(outcomes: &[Self]) -> Result<Vec<(&'static str, f64)>> {
        let share = 1. / outcomes.len() as f64;
        let mut means: Option<[Named; 9]> = None;
        for outcome in outcomes {
            let mut new = outcome.numbers()?;
            for (at, (_, value)) in new.iter_mut().enumerate() {
                *value = value.map(|value| share * value);
                if let Some(before) = &means {
                    *value = value.zip(before[at].1).map(|(new, before)| before + new);
                }
            }
            means = Some(new);
        }
        let named = means.into_iter().flatten();
        Ok(named
            .filter_map(|(name, value)| Some((name, value?)))
            .collect())
    }
}
