//! The kernels' sources.

use std::fmt;

/// The type of activations that a file is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Real {
    /// f32
    F32,
    /// bf16; arithmetic stays f32.
    Bf16,
}

impl Real {
    /// Both.
    pub const ALL: &'static [Self] = &[Self::F32, Self::Bf16];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// What the compiler defines for it.
    #[must_use]
    pub fn defines(self) -> &'static [&'static str] {
        match self {
            Self::F32 => &[],
            Self::Bf16 => &["-DREAL_BF16"],
        }
    }

    /// What the names of its kernels end with.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "_f32",
            Self::Bf16 => "_bf16",
        }
    }
}

/// A `.cu` file.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct File {
    /// Its name in `kernels/`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The types it is compiled for.
    pub reals: &'static [Real],
}

/// What the files include, by name.
pub const HEADERS: &[(&str, &str)] = &[
    ("attention.cuh", include_str!("../kernels/attention.cuh")),
    ("columns.cuh", include_str!("../kernels/columns.cuh")),
    ("common.cuh", include_str!("../kernels/common.cuh")),
    ("log_sum.cuh", include_str!("../kernels/log_sum.cuh")),
    ("mma.cuh", include_str!("../kernels/mma.cuh")),
    ("rows.cuh", include_str!("../kernels/rows.cuh")),
    ("sort.cuh", include_str!("../kernels/sort.cuh")),
    ("tensors.cuh", include_str!("../kernels/tensors.cuh")),
    ("values.cuh", include_str!("../kernels/values.cuh")),
];

macro_rules! files {
    ($($constant:ident = $name:literal, $reals:expr;)*) => {
        $(
            #[doc = concat!("`kernels/", $name, "`")]
            pub static $constant: File = File {
                name: $name,
                text: include_str!(concat!("../kernels/", $name)),
                reals: $reals,
            };
        )*

        /// All files.
        pub static FILES: &[&File] = &[$(&$constant),*];
    };
}

// A file, and the types it is compiled for.
files! {
    ATTENTION = "attention.cu", Real::ALL;
    ATTENTION_MMA = "attention_mma.cu", &[Real::Bf16];
    AUGMENT = "augment.cu", Real::ALL;
    AVERAGE = "average.cu", &[Real::F32];
    BANK = "bank.cu", &[Real::F32];
    BATCH_NORM = "batch_norm.cu", Real::ALL;
    COSINE = "cosine.cu", &[Real::F32];
    DEPTHWISE = "depthwise.cu", Real::ALL;
    ELEMENTWISE = "elementwise.cu", Real::ALL;
    FINITE = "finite.cu", &[Real::F32];
    GATHER = "gather.cu", Real::ALL;
    GELU = "gelu.cu", Real::ALL;
    GLOBAL_MEAN = "global_mean.cu", Real::ALL;
    IMPORTANCE = "importance.cu", &[Real::F32];
    INFO_NCE = "info_nce.cu", Real::ALL;
    L2_NORMALISE = "l2_normalise.cu", Real::ALL;
    LAYER_NORM = "layer_norm.cu", Real::ALL;
    LAYOUT = "layout.cu", Real::ALL;
    MASK = "mask.cu", &[Real::F32];
    OPTIMIZER = "optimizer.cu", &[Real::F32];
    PAD = "pad.cu", Real::ALL;
    PATCHES = "patches.cu", Real::ALL;
    PERTURB = "perturb.cu", &[Real::F32];
    POOL = "pool.cu", Real::ALL;
    QUEUE = "queue.cu", &[Real::F32];
    RESIZE = "resize.cu", Real::ALL;
    SOFTMAX = "softmax.cu", Real::ALL;
    SQUARED_ERROR = "squared_error.cu", Real::ALL;
    TOKENS = "tokens.cu", Real::ALL;
    UNIT_ROWS = "unit_rows.cu", Real::ALL;
}

/// A file compiled for one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Module {
    /// The file.
    pub file: &'static File,
    /// The type.
    pub real: Real,
}

impl Module {
    /// All files for all their types.
    pub fn all() -> impl Iterator<Item = Self> {
        FILES.iter().flat_map(|file| {
            let of = move |real: &Real| Self { file, real: *real };
            file.reals.iter().map(of)
        })
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.file.name, self.real.name())
    }
}

/// A function of a file, and what its comment says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The file.
    pub file: &'static str,
    /// Line of the file, from 1.
    pub line: usize,
    /// The name without the type.
    pub name: String,
    /// The comment above it, up to the first full stop.
    pub about: String,
    /// The types it is compiled for.
    pub reals: &'static [Real],
}

/// The kernels of a file, in its order.
#[must_use]
pub fn kernels(file: &File) -> Vec<Kernel> {
    let lines: Vec<&str> = file.text.lines().collect();
    let starts = lines.iter().enumerate().filter_map(|(index, line)| {
        let name = line.strip_prefix("KERNEL(")?.split_once(')')?.0;
        Some((index, name))
    });
    starts
        .map(|(index, name)| {
            let above = lines[..index].iter().rev();
            let mut comment: Vec<&str> = above
                .map_while(|line| line.strip_prefix("//"))
                .map(str::trim)
                .collect();
            comment.reverse();
            let comment = comment.join(" ");
            let about = comment.split_inclusive(". ").next().unwrap_or_default();
            Kernel {
                file: file.name,
                line: index + 1,
                name: name.to_owned(),
                about: about.trim().to_owned(),
                reals: file.reals,
            }
        })
        .collect()
}

/// The kernels whose file or name contains `part`.
#[must_use]
pub fn find(part: &str) -> Vec<Kernel> {
    let all = FILES.iter().flat_map(|file| kernels(file));
    all.filter(|kernel| kernel.name.contains(part) || kernel.file.contains(part))
        .collect()
}
