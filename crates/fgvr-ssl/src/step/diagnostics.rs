//! What a step says of itself.

use candle_core::{DType, Result, Tensor};

use crate::bases::head::SHORTEST;

/// Numbers of the base to log besides its loss.
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
        ];
        values.extend(self.negative.map(|v| ("negative", v)));
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
}
