//! What can be wrong with embeddings.

/// Why an evaluation could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor of another shape.
    #[error("{op}: {name} is {found:?}, expected {expected}")]
    Shape {
        /// The evaluation.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its dims.
        found: Vec<usize>,
        /// What the evaluation takes.
        expected: String,
    },
    /// A slice whose number of values makes no such shape.
    #[error("{op}: {name} has {found} values, expected {expected}")]
    Length {
        /// The evaluation.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its number of values.
        found: usize,
        /// What the evaluation takes.
        expected: String,
    },
    /// Not one label for each feature.
    #[error("{op}: {labels} labels for {rows} rows of {name}")]
    Labels {
        /// The evaluation.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Number of feature rows.
        rows: usize,
        /// Number of labels.
        labels: usize,
    },
    /// NaN or an infinity.
    #[error("{op}: {name} is {value} at row {row}, column {column}")]
    NotFinite {
        /// The evaluation.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Index in the first dimension.
        row: usize,
        /// Index in the rest.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A probe on one class has nothing to tell apart.
    #[error("{op}: all {rows} training rows are of class {class}, expected two classes or more")]
    OneClass {
        /// The evaluation.
        op: &'static str,
        /// Number of training rows.
        rows: usize,
        /// The only class.
        class: u32,
    },
    /// There is nothing to measure.
    #[error("{op}: {reason}")]
    Nothing {
        /// The evaluation.
        op: &'static str,
        /// Why.
        reason: String,
    },
    /// A configuration that makes no sense.
    #[error("{op}: {field} is {value}, expected {expected}")]
    Config {
        /// The evaluation.
        op: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The solver's loss is no number any more: its learning rate is too high for these features.
    #[error("{op}: the loss is {loss} after {epoch} epochs; lower the learning rate")]
    Diverged {
        /// The evaluation.
        op: &'static str,
        /// The loss.
        loss: f64,
        /// Full epochs before.
        epoch: usize,
    },
    /// An error of candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Whether the settings or the set are at fault, rather than the program that calls.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::NotFinite { .. }
            | Self::OneClass { .. }
            | Self::Nothing { .. }
            | Self::Config { .. }
            | Self::Diverged { .. } => true,
            Self::Shape { .. } | Self::Length { .. } | Self::Labels { .. } | Self::Candle(_) => {
                false
            }
        }
    }
}
