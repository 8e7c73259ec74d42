//! What a step says of itself.

use candle_core::{DType, Result, Tensor};
use fgvr_perturb::MaskStats;

use crate::head::SHORTEST;
use crate::info_nce::scalar;
use crate::l2_normalise;

/// Numbers to log besides the losses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnostics {
    /// Fraction of real queries nearest to their own key.
    pub top1: f64,
    /// Mean similarity of a real query and its key.
    pub positive: f64,
    /// Mean similarity of a real query and a negative.
    pub negative: Option<f64>,
    /// Statistics of the query encoder's features of real images.
    pub features: FeatureStatistics,
    /// The fraction of channels that are zero throughout the bank.
    pub dead_fraction: Option<f64>,
    /// ν(t) of this step; the pair may still have had to wait for the bank.
    pub pair_weight: f64,
    /// Those of the generated pair, where there was one.
    pub pair: Option<PairDiagnostics>,
}

/// Statistics of pooled features over a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FeatureStatistics {
    /// Mean of all values.
    pub mean: f64,
    /// Fraction of values that are zero.
    pub zeros: f64,
    /// Standard deviation over the batch of the L2-normalised features, mean over channels: 1/sqrt(C)
    /// at most, 0 on collapse.
    pub std: f64,
}

/// What to watch of the generated pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairDiagnostics {
    /// Size of the mask, agreement of the two criteria.
    pub mask: MaskStats,
    /// Fraction of generated queries nearest to their own key.
    pub top1: f64,
    /// Mean similarity of a generated query and a negative; `None` while the pair's queue is empty.
    pub negative: Option<f64>,
    /// mean |x̂ - x̃| / mean |x - x̂|, before the pair's augmentation; of pairs of features
    /// mean |h - h̃| / mean |h|.
    pub difference: f64,
    /// Mean cosine between the features of x̂ and x̃, one by the query encoder, one by the key encoder.
    pub same_cosine: f64,
    /// The same between generated images of different images; `None` in a batch of one.
    pub other_cosine: Option<f64>,
}

impl PairDiagnostics {
    /// Why this pair teaches nothing, if so.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        if self.top1 > 0.99 && self.negative.is_some() {
            Some("the pair task is solved (top-1 above 0.99): it teaches nothing")
        } else if self.difference < 0.01 {
            Some("the two generated images hardly differ (below 0.01 of the reconstruction error)")
        } else {
            None
        }
    }
}

impl Diagnostics {
    /// Everything that has a value, by name, in a fixed order.
    #[must_use]
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        let mut values = vec![
            ("top1", self.top1),
            ("positive", self.positive),
            ("feature_mean", self.features.mean),
            ("feature_zeros", self.features.zeros),
            ("feature_std", self.features.std),
            ("pair_weight", self.pair_weight),
        ];
        values.extend(self.negative.map(|v| ("negative", v)));
        values.extend(self.dead_fraction.map(|v| ("dead_fraction", v)));
        if let Some(pair) = &self.pair {
            values.extend([
                ("masked_fraction", pair.mask.fraction),
                ("mask_overlap", pair.mask.overlap),
                ("masked_constant", pair.mask.constant),
                ("pair_top1", pair.top1),
                ("pair_difference", pair.difference),
                ("pair_same_cosine", pair.same_cosine),
            ]);
            values.extend(pair.negative.map(|v| ("pair_negative", v)));
            values.extend(pair.other_cosine.map(|v| ("pair_other_cosine", v)));
        }
        values
    }
}

impl FeatureStatistics {
    /// Of `pooled` (N, C).
    ///
    /// # Errors
    /// Another shape.
    pub fn of(pooled: &Tensor) -> Result<Self> {
        let (n, c) = pooled.dims2()?;
        let values = pooled
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let (mut sum, mut zeros) = (0., 0usize);
        // Sums and sums of squares over the rows of length one, in one pass: a step waits for this.
        let mut moments = vec![[0f64; 2]; c];
        for row in values.chunks_exact(c.max(1)) {
            let square: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
            let short = square <= SHORTEST * SHORTEST;
            let share = if short { 0. } else { square.sqrt().recip() };
            for (value, [first, second]) in row.iter().zip(&mut moments) {
                let value = f64::from(*value);
                sum += value;
                zeros += usize::from(value == 0.);
                *first += value * share;
                *second += (value * share).powi(2);
            }
        }
        let rows = n.max(1) as f64;
        let std = |[first, second]: &[f64; 2]| {
            let variance = second / rows - (first / rows).powi(2);
            // A difference of nearly equal sums; what is no number stays none.
            if variance < 0. { 0. } else { variance.sqrt() }
        };
        let count = (n * c).max(1) as f64;
        Ok(Self {
            mean: sum / count,
            zeros: zeros as f64 / count,
            std: moments.iter().map(std).sum::<f64>() / c.max(1) as f64,
        })
    }
}

impl PairDiagnostics {
    /// Every figure times `factor`.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self {
            mask: MaskStats {
                fraction: self.mask.fraction * factor,
                overlap: self.mask.overlap * factor,
                constant: self.mask.constant * factor,
            },
            top1: self.top1 * factor,
            negative: self.negative.map(|v| v * factor),
            difference: self.difference * factor,
            same_cosine: self.same_cosine * factor,
            other_cosine: self.other_cosine.map(|v| v * factor),
        }
    }

    /// Sums of figures; one that only one of the two has is dropped.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let both = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a + b);
        Self {
            mask: MaskStats {
                fraction: self.mask.fraction + other.mask.fraction,
                overlap: self.mask.overlap + other.mask.overlap,
                constant: self.mask.constant + other.mask.constant,
            },
            top1: self.top1 + other.top1,
            negative: both(self.negative, other.negative),
            difference: self.difference + other.difference,
            same_cosine: self.same_cosine + other.same_cosine,
            other_cosine: both(self.other_cosine, other.other_cosine),
        }
    }

    /// By the difference of the images, the pooled features (N, C) of query and key, and top-1 and mean negative of
    /// the contrast.
    pub(crate) fn new(
        mask: MaskStats,
        difference: f64,
        [query, key]: [&Tensor; 2],
        (top1, negative): (f64, Option<f64>),
    ) -> Result<Self> {
        let (query, key) = (l2_normalise(&query.detach())?, l2_normalise(key)?);
        let same = (&query * &key)?.sum(1)?;
        let n = same.dim(0)?;
        // The sum of the products of all pairs is the product of the sums.
        let all = scalar(&(query.sum(0)? * key.sum(0)?)?.sum_all()?)?;
        let sum = scalar(&same.sum_all()?)?;
        Ok(Self {
            mask,
            top1,
            negative,
            difference,
            same_cosine: sum / n as f64,
            other_cosine: (n > 1).then(|| (all - sum) / (n * (n - 1)) as f64),
        })
    }

    /// Loss and diagnostics over the pairs of all branches.
    pub(crate) fn mean_of(passes: Vec<(f64, Self)>) -> Option<(f64, Self)> {
        let share = 1. / passes.len() as f64;
        let mut sum: Option<(f64, Self)> = None;
        for (loss, of) in passes {
            let (loss, of) = (loss * share, of.scaled(share));
            sum = Some(match sum {
                None => (loss, of),
                Some((before, all)) => (before + loss, all.plus(&of)),
            });
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn collapsed_features_have_no_spread_and_spread_ones_have() {
        let of = |rows: &[[f32; 2]; 2]| {
            FeatureStatistics::of(&Tensor::new(rows, &Device::Cpu).unwrap()).unwrap()
        };
        let collapsed = of(&[[2., 0.], [5., 0.]]);
        assert_eq!(
            (collapsed.mean, collapsed.zeros, collapsed.std),
            (1.75, 0.5, 0.)
        );
        let spread = of(&[[2., 0.], [0., 5.]]);
        assert!((spread.std - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_pair_that_teaches_nothing_is_warned_of() {
        let pair = |top1, difference, negative| PairDiagnostics {
            mask: MaskStats {
                fraction: 0.4,
                overlap: 0.2,
                constant: 0.,
            },
            top1,
            negative,
            difference,
            same_cosine: 0.9,
            other_cosine: Some(0.1),
        };
        assert_eq!(pair(0.9, 0.3, Some(0.2)).warning(), None);
        assert_eq!(pair(1., 0.3, None).warning(), None); // nothing to compare with yet
        let says = |pair: PairDiagnostics, what| pair.warning().is_some_and(|w| w.contains(what));
        assert!(says(pair(0.995, 0.3, Some(0.2)), "solved"));
        assert!(says(pair(0.9, 0.005, Some(0.2)), "differ"));
    }
}
