//! What can go wrong with a configuration or a weights file.

use std::path::PathBuf;

use candle_core::DType;

/// An error of this crate. Each variant names the file and the tensor it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A depth without a layout of blocks.
    #[error("resnet: depth is {found}, expected one of 10, 14, 18, 34, 50")]
    UnknownDepth {
        /// The depth asked for.
        found: usize,
    },
    /// A width of zero, or one whose channel counts overflow.
    #[error(
        "resnet: width is {found}, expected 1 to {max} base channels (64 in the published nets)"
    )]
    Width {
        /// The width asked for.
        found: usize,
        /// The largest one accepted.
        max: usize,
    },
    /// The file could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is there already, and overwriting was not asked for.
    #[error("{}: exists already, and overwriting was not asked for", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// The file ends before its header says so, or goes on after it.
    #[error(
        "{}: {found} bytes, expected {expected}; the file is truncated or damaged",
        file.display()
    )]
    Length {
        /// The file.
        file: PathBuf,
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// The file is not safetensors.
    #[error("{}: not a safetensors file: {reason}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A tensor whose shape is not the variable's.
    #[error("{}: {name} has shape {found:?}, expected {expected:?}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// The variable's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// A tensor of a type that weights do not have.
    #[error("{}: {name} is {found}, expected {expected}", file.display())]
    DataType {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
        /// The types accepted.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// A weight that is infinite or not a number.
    #[error("{}: {name} holds a value that is not finite", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        name: String,
    },
    /// No tensor of the file has a variable's name: another architecture, or names with a prefix.
    #[error(
        "{}: none of its {found} tensors has the name of a variable; \
         expected names like {expected:?}, found names like {example:?}",
        file.display()
    )]
    NothingLoaded {
        /// The file.
        file: PathBuf,
        /// Tensors in the file.
        found: usize,
        /// A variable's name.
        expected: String,
        /// A name in the file.
        example: String,
    },
    /// [`LoadReport::strict`](crate::LoadReport::strict): names that do not match.
    #[error("{}: missing {missing:?}; unexpected {unexpected:?}", file.display())]
    Incomplete {
        /// The file.
        file: PathBuf,
        /// Variables that the file lacks.
        missing: Vec<String>,
        /// Tensors that no variable has the name of.
        unexpected: Vec<String>,
    },
    /// An operation on a tensor failed.
    #[error("{name}: {source}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What candle said.
        source: candle_core::Error,
    },
}

impl Error {
    pub(crate) fn data_type(
        file: PathBuf,
        name: &str,
        expected: &'static str,
        found: DType,
    ) -> Self {
        Self::DataType {
            file,
            name: name.to_owned(),
            expected,
            found: found.as_str().to_owned(),
        }
    }
}
