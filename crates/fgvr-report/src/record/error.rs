use std::io;
use std::path::{Path, PathBuf};

/// Why a record could not be written or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// What the system said.
        r#source: io::Error,
    },
    /// A new run was asked for where one already stands.
    #[error("{path}: a run already stands here; resume it or choose another folder", path = .path.display())]
    AlreadyThere {
        /// The file that is already there.
        path: PathBuf,
    },
    /// A line of `metrics.jsonl` is not a row.
    #[error("{path}:{line}: expected a row of metrics with a `step`, found {found:?}", path = .path.display())]
    BadRow {
        /// The metrics file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What stands there, shortened.
        found: String,
    },
    /// An event file is damaged before its end.
    #[error("{path}: damaged event at byte {offset}: {reason}", path = .path.display())]
    BadEvent {
        /// The event file.
        path: PathBuf,
        /// Where the record begins, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A row has no whole number under `step`.
    #[error("metrics: row has no whole number under `step`; its keys are {keys}")]
    NoStep {
        /// The keys the row has.
        keys: String,
    },
    /// A row belongs to an earlier step than the one before it.
    #[error("metrics: step {found} after step {last}; rows must not go back")]
    StepBack {
        /// The step of the row before.
        last: u64,
        /// The step of this row.
        found: u64,
    },
    /// The bytes of an image are not a PNG file.
    #[error("image {tag:?}: expected a PNG file, found {len} bytes that are none")]
    NotPng {
        /// The tag of the image.
        tag: String,
        /// How many bytes were given.
        len: usize,
    },
}

impl RecordError {
    /// Whether the files are at fault, rather than a row or picture that was to be recorded.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::AlreadyThere { .. }
            | Self::BadRow { .. }
            | Self::BadEvent { .. } => true,
            Self::NoStep { .. } | Self::StepBack { .. } | Self::NotPng { .. } => false,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}
