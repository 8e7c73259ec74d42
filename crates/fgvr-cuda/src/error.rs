//! What can go wrong between a kernel's source and its result.

use std::fmt;
use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with what was expected, what was found and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The run-time compiler's library was not found.
    #[error(
        "no NVRTC: looked for {}; {why}. Install a CUDA toolkit 12 or 13 (or the pip packages nvidia-cuda-nvrtc and nvidia-cuda-runtime) and name its library folder in CUDA_TOOLKIT_LIBS or its root in CUDA_HOME",
        searched.join(", ")
    )]
    NoNvrtc {
        /// Paths and names, in order.
        searched: Vec<String>,
        /// What the loader said last.
        why: String,
    },
    /// The run-time compiler's library is not one that can be used.
    #[error("NVRTC at {path}: {why}")]
    Nvrtc {
        /// The library.
        path: String,
        /// What failed.
        why: String,
    },
    /// A file does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// No C++ compiler, or one that cannot build the emulator.
    #[error("emulator: {0}")]
    Emulator(String),
    /// No GPU, or no driver.
    #[error("no GPU: {0}")]
    NoGpu(String),
    /// What NVIDIA's driver or one of its libraries says.
    #[error("{what}: {why}")]
    Driver {
        /// What was asked.
        what: String,
        /// The answer.
        why: String,
    },
    /// The GPU's memory is used up.
    #[error("out of GPU memory: {wanted} more bytes wanted, {free} of {total} free")]
    OutOfMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes that are free.
        free: usize,
        /// Bytes of the GPU.
        total: usize,
    },
    /// A kernel was launched wrongly, or did something that is undefined on a GPU.
    #[error("{kernel}: {why}")]
    Kernel {
        /// The kernel's name, with its type.
        kernel: String,
        /// What was found.
        why: String,
    },
    /// Arrays whose lengths or types do not fit each other.
    #[error("{op}: {what}: expected {expected}, found {found}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// Which operand.
        what: &'static str,
        /// Elements or type.
        expected: String,
        /// Elements or type.
        found: String,
    },
    /// A file that could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        r#source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}

/// What a compiler found in a file, and for which GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct CompileError {
    /// The file.
    pub file: String,
    /// Such as sm_90a.
    pub target: String,
    /// Each error with its place, in the compiler's order; never empty.
    pub messages: Vec<Message>,
    /// All that the compiler said.
    pub log: String,
}

/// One error of a compiler.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// File and line (from 1), where the compiler gave them.
    pub place: Option<(String, usize)>,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, message) in self.messages.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            match &message.place {
                Some((file, line)) => write!(f, "{file}:{line}: ")?,
                None => write!(f, "{}: ", self.file)?,
            }
            write!(f, "{} (for {})", message.text, self.target)?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}
