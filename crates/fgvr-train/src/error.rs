//! What can go wrong in a run, and what to do about it.

use std::path::{Path, PathBuf};

/// An error of the training engine. Its text says what was expected, what was found, where, and
/// what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that is unknown or out of range.
    #[error("{key}: {problem}")]
    Config {
        /// The setting's path, such as `moco.temperature`, or the file it stands in.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A run folder that cannot be used as asked.
    #[error("{}: {problem}", .path.display())]
    Run {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A checkpoint that is damaged or belongs to another model.
    #[error("checkpoint {}: {problem}", .path.display())]
    Checkpoint {
        /// The checkpoint's file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An alarm whose policy is to stop the run.
    #[error("step {step}: {problem}")]
    Alarm {
        /// The optimiser's step.
        step: u64,
        /// What was seen and what to try.
        problem: String,
    },
    /// The data set cannot be read.
    #[error(transparent)]
    Data(#[from] fgvr_data::Error),
    /// The encoder's weights cannot be read or written.
    #[error(transparent)]
    Encoder(#[from] fgvr_encoder::Error),
    /// Weights of another network than the one they are loaded into.
    #[error("{weights} ({how})")]
    Unfit {
        /// What does not fit.
        weights: Box<fgvr_encoder::Error>,
        /// What to write on the command line where that is meant.
        how: String,
    },
    /// Embeddings that cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] fgvr_eval::Error),
    /// Features that no adaptation can be fitted to, or a saved adaptation that cannot be read.
    #[error(transparent)]
    Adaptation(#[from] fgvr_perturb::AdaptError),
    /// The observer asked to stop, and what was done is kept as the text says. Nothing is wrong.
    #[error("{problem}")]
    Stopped {
        /// How far it came, and how to go on.
        problem: String,
    },
    /// Features that are infinite or not a number.
    #[error(
        "features of {bad} of {photos} photos are not finite, {first} the first of them; {advice}"
    )]
    NotFinite {
        /// Photos with such features.
        bad: usize,
        /// Photos in all.
        photos: usize,
        /// The first such photo.
        first: String,
        /// What to do.
        advice: &'static str,
    },
    /// The records of a run cannot be read or written.
    #[error(transparent)]
    Record(#[from] fgvr_report::record::RecordError),
    /// A report or picture cannot be made.
    #[error(transparent)]
    Report(#[from] fgvr_report::ReportError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
}

impl Error {
    /// Whether a person can mend it: settings, paths, files, photos, a checkpoint, and what the
    /// system refuses, such as a folder that may not be written or a disk that is full. The others
    /// are the program's own: an operation that failed, an alarm that ended a run. Programs answer
    /// the former with exit code 2 and the latter with 1.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Config { .. }
            | Self::Run { .. }
            | Self::Checkpoint { .. }
            | Self::Unfit { .. }
            | Self::NotFinite { .. }
            | Self::Io { .. } => true,
            Self::Alarm { .. } | Self::Tensor(_) | Self::Stopped { .. } => false,
            Self::Adaptation(error) => error.is_bad_input(),
            Self::Data(error) => error.is_bad_input(),
            Self::Encoder(error) => error.is_bad_input(),
            Self::Evaluation(error) => error.is_bad_input(),
            Self::Record(error) => error.is_bad_input(),
            Self::Report(error) => matches!(error, fgvr_report::ReportError::Io { .. }),
        }
    }

    pub(crate) fn config(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config {
            key: key.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn run(path: &Path, problem: impl Into<String>) -> Self {
        Self::Run {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    /// For `map_err`: an I/O error at `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The result of an operation of the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;
