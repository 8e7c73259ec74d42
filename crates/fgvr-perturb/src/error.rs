//! What can be wrong with features, masks and their settings.

use crate::MaskRule;

/// Why no mask, statistic or perturbed feature could be computed from slices. It becomes candle's error
/// where a function returns that.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number of values that does not fit.
    #[error("{op}: {name} has {found} values, expected {expected}")]
    Length {
        /// The function.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its number of values.
        found: usize,
        /// What it takes.
        expected: String,
    },
    /// Not one image index for each row.
    #[error("{op}: images has {found} indices, expected {expected}")]
    Images {
        /// The function.
        op: &'static str,
        /// The number of indices.
        found: usize,
        /// The number of rows.
        expected: usize,
    },
    /// NaN or an infinity.
    #[error("{op}: {name} is {value} at row {row}, channel {channel}")]
    NotFinite {
        /// The function.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// The value.
        value: f64,
        /// Its row, counted from 0.
        row: usize,
        /// Its channel, counted from 0.
        channel: usize,
    },
    /// A setting that makes no sense, or one that does not go with another.
    #[error("{op}: {field} is {value}, expected {expected}")]
    Setting {
        /// The function.
        op: &'static str,
        /// The setting.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A rule that ranks by importance, without one.
    #[error(
        "non_discriminative_mask: the rule {rule:?} ranks by importance, expected one, found none"
    )]
    NoImportance {
        /// The rule.
        rule: MaskRule,
    },
    /// A standard deviation below 0.
    #[error("perturb: scale is {value} at channel {channel}, expected a value >= 0")]
    Scale {
        /// The value.
        value: f64,
        /// Its channel.
        channel: usize,
    },
    /// [`Noise::Swap`](crate::Noise::Swap) has nothing to swap with.
    #[error("perturb: swap needs a second image in the batch, found {rows} of one image")]
    OneImage {
        /// Rows of the batch.
        rows: usize,
    },
    /// A bank that is empty, or holds something else than is asked for.
    #[error("feature bank {op}: {problem}")]
    Bank {
        /// The method.
        op: &'static str,
        /// What is wrong.
        problem: String,
    },
}

#[cfg(feature = "candle")]
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::msg(error)
    }
}
