//! What is done to features before a probe sees them.

use crate::embeddings::Rows;

/// How a probe scales its features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Scaling {
    /// Each dimension to mean 0 and standard deviation 1 over the training rows; a dimension that is
    /// constant there becomes 0.
    #[default]
    Standardise,
    /// Each row to length 1; a row of zeros stays.
    L2Normalise,
    /// As they are.
    None,
}

/// A standard deviation below this share of the mean is f32 rounding, not variation.
pub(crate) const ROUNDING: f64 = 1e-7;

/// Standard deviations at which an outlier of the test set is cut off, far inside what f32 holds.
const OUTLIER: f64 = 1e6;

/// A scaling with the numbers it took from training rows.
pub(crate) enum Scaler {
    /// Mean and 1 / s.d. (or 0) by dimension.
    Standardise(Vec<(f64, f64)>),
    L2Normalise,
    None,
}

impl Scaling {
    pub(crate) fn fit(self, rows: &Rows) -> Scaler {
        match self {
            Self::L2Normalise => Scaler::L2Normalise,
            Self::None => Scaler::None,
            Self::Standardise => {
                let (mean, variance) = rows.moments();
                let inverse = |(mean, variance): (f64, f64)| {
                    let std = variance.sqrt();
                    let varies = std > ROUNDING * mean.abs() && std > 0.;
                    (mean, if varies { std.recip() } else { 0. })
                };
                Scaler::Standardise(mean.into_iter().zip(variance).map(inverse).collect())
            }
        }
    }
}

impl Scaler {
    pub(crate) fn apply(&self, rows: &mut Rows) {
        match self {
            Self::None => {}
            Self::L2Normalise => rows.l2_normalise(),
            Self::Standardise(dimensions) => {
                for row in rows.values.chunks_exact_mut(rows.d) {
                    for (value, (mean, inverse)) in row.iter_mut().zip(dimensions) {
                        let scaled = (f64::from(*value) - mean) * inverse;
                        *value = scaled.clamp(-OUTLIER, OUTLIER) as f32;
                    }
                }
            }
        }
    }
}
