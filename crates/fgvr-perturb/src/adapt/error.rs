//! What can be wrong with features, settings and files of an adaptation.

use std::path::PathBuf;

/// Why no covariance, transformation or file could be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdaptError {
    /// A number of values that makes no whole rows, or other rows than were announced.
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
    /// A list without an entry.
    #[error("{op}: {name} is empty, expected at least 1 entry")]
    Empty {
        /// The function.
        op: &'static str,
        /// The argument.
        name: &'static str,
    },
    /// A tensor of another shape.
    #[error("{op}: {name} is {found:?}, expected {expected}")]
    Shape {
        /// The function.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its dims.
        found: Vec<usize>,
        /// What the function takes.
        expected: String,
    },
    /// NaN or an infinity.
    #[error(
        "{op}: {count} of {total} values of {name} are not finite, the first is {value} at {place}, channel {channel}"
    )]
    NotFinite {
        /// The function.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// How many there are.
        count: usize,
        /// The number of values.
        total: usize,
        /// The first one.
        value: f32,
        /// Its row: `row 7`, or `image 7, view 1`; counted from 0 in this call.
        place: String,
        /// Its channel, counted from 0.
        channel: usize,
    },
    /// Without a second view nothing tells what varies within an image.
    #[error("add_views: {} of each image, expected 2 or more", count(*found, "view"))]
    Views {
        /// Views of each image.
        found: usize,
    },
    /// There is no variance among fewer than two.
    #[error("{op}: {} with {what}, expected 2 or more", count(*found, "image"))]
    Images {
        /// The function.
        op: &'static str,
        /// Which features: `plain features` or `augmented views`.
        what: &'static str,
        /// How many images have them.
        found: usize,
    },
    /// Everything is equal, to the rounding of f32.
    #[error("{op}: no variance, {what}; expected {expected}")]
    NoVariance {
        /// The function.
        op: &'static str,
        /// What is equal.
        what: String,
        /// What is needed.
        expected: &'static str,
    },
    /// Two parts of different widths.
    #[error("merge: width {found}, expected {expected}")]
    Width {
        /// The width of the part to be merged.
        found: usize,
        /// The width of the accumulator.
        expected: usize,
    },
    /// A setting that makes no sense.
    #[error("{field} is {value}, expected {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// Mutual neighbours are searched among the plain features themselves.
    #[error("fit: the kind {kind} searches neighbours, expected the plain features, found none")]
    Features {
        /// The name of the kind.
        kind: &'static str,
    },
    /// A pair that names a row which is not there.
    #[error(
        "neighbour_covariance: pair ({0}, {1}), expected two rows below {rows}", pair.0, pair.1
    )]
    Pair {
        /// The pair.
        pair: (u32, u32),
        /// The number of rows.
        rows: usize,
    },
    /// The covariance has directions without variance, and no ridge makes up for them.
    #[error(
        "fit: the covariance is not positive definite at channel {channel} with ridge {ridge}, expected a larger ridge"
    )]
    NotPositive {
        /// Where the Cholesky decomposition stopped.
        channel: usize,
        /// The ridge of the settings.
        ridge: f64,
    },
    /// An iteration that did not end.
    #[error("fit: eigenvalue {index} of {width} did not converge")]
    Eigenvalue {
        /// Which one.
        index: usize,
        /// The number of eigenvalues.
        width: usize,
    },
    /// A file that holds no adaptation, or a damaged one.
    #[error("{}: {found}, expected {expected}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What was found.
        found: String,
        /// What an adaptation has there.
        expected: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        r#source: std::io::Error,
    },
    /// An error of candle's.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl AdaptError {
    /// Whether features, settings or a file are at fault, rather than the program that calls.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::NotFinite { .. }
            | Self::Views { .. }
            | Self::Images { .. }
            | Self::NoVariance { .. }
            | Self::Config { .. }
            | Self::NotPositive { .. }
            | Self::File { .. }
            | Self::Io { .. } => true,
            Self::Length { .. }
            | Self::Empty { .. }
            | Self::Shape { .. }
            | Self::Width { .. }
            | Self::Features { .. }
            | Self::Pair { .. }
            | Self::Eigenvalue { .. }
            | Self::Candle(_) => false,
        }
    }
}

/// `1 view`, `3 views`
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
