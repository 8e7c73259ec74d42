//! What can go wrong with a configuration or with weights.

use std::path::PathBuf;

use candle_core::DType;

/// An error of this crate. Each variant names the file and the tensor it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A depth without a layout of blocks.
    #[error("resnet: depth is {found}, expected one of 10, 14, 18, 34, 50, 101")]
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
    /// A base width that the blocks of this depth cannot have.
    #[error(
        "resnet: base width is {found} at depth {depth}, expected 64 with basic blocks, and 1 to 2048, \
         and no less than one channel inside a block, with bottlenecks"
    )]
    BaseWidth {
        /// The base width asked for.
        found: usize,
        /// The depth.
        depth: usize,
    },
    /// A size of a vision transformer that is zero or absurd.
    #[error("vit: {size} is {found}, expected 1 to {max}")]
    VitSize {
        /// Which one.
        size: &'static str,
        /// Its value.
        found: usize,
        /// The largest one accepted.
        max: usize,
    },
    /// An image that its patches do not fill.
    #[error("vit: image_size is {image_size}, expected a multiple of patch_size, {patch_size}")]
    PatchGrid {
        /// Pixels of the image's side.
        image_size: usize,
        /// Pixels of a patch's side.
        patch_size: usize,
    },
    /// Channels that do not divide into the heads.
    #[error("vit: width is {width}, expected a multiple of heads, {heads}")]
    Heads {
        /// Channels.
        width: usize,
        /// Heads.
        heads: usize,
    },
    /// An EfficientNet-Lite that there is not.
    #[error("efficientnet: scale is {found}, expected 0 to {max}")]
    Scale {
        /// The scale asked for.
        found: usize,
        /// The largest one.
        max: usize,
    },
    /// A factor on widths or depths that is zero or absurd.
    #[error("efficientnet: {which} is {found}, expected more than 0 and at most {max}")]
    Multiplier {
        /// Which one.
        which: &'static str,
        /// Its value.
        found: f64,
        /// The largest one accepted.
        max: f64,
    },
    /// An epsilon that no norm can have.
    #[error("norm_eps is {found}, expected 0 or more and less than 1")]
    NormEps {
        /// The epsilon asked for.
        found: f64,
    },
    /// Channels that sines and cosines of two directions do not divide into.
    #[error("vit: width is {width}, expected a multiple of 4 for positions of sines and cosines")]
    Sincos {
        /// Channels.
        width: usize,
    },
    /// A name that no architecture has.
    #[error("architecture `{found}` is unknown; did you mean `{nearest}`? There are {known}")]
    UnknownArchitecture {
        /// The name asked for.
        found: String,
        /// The name most like it.
        nearest: &'static str,
        /// All names.
        known: String,
    },
    /// An option that networks of this family do not have.
    #[error("{architecture}: `{option}` is {found}, but {family} have no such option")]
    Option {
        /// The architecture's name.
        architecture: &'static str,
        /// The option.
        option: &'static str,
        /// Its value.
        found: String,
        /// What the architecture is.
        family: &'static str,
    },
    /// The file could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
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
    /// The file is not what its first bytes promise.
    #[error("{}: cannot be read as a {format} file: {reason}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// The format that was expected.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file that is something else: a page, a picture, another program's network.
    #[error("{}: {found}, not weights that can be read here; {advice}", file.display())]
    NotWeights {
        /// The file.
        file: PathBuf,
        /// What it is.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// A file that only says where another one is.
    #[error(
        "{}: a Git LFS pointer, not the weights; fetch them with `git lfs pull`",
        file.display()
    )]
    LfsPointer {
        /// The file.
        file: PathBuf,
    },
    /// A file of JSON that does not hold what its name says.
    #[error("{}: {reason}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A directory without weights, or with more than one set of them.
    #[error(
        "{}: expected model.safetensors, model.safetensors.index.json, pytorch_model.bin, \
         pytorch_model.bin.index.json, or exactly one .safetensors, .pth or .pth.tar file; {found}",
        directory.display()
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is there.
        found: String,
    },
    /// Text that names no source of weights.
    #[error("{text:?}: {reason}")]
    Source {
        /// The text.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// Weights on the Hub, in a build that cannot reach it.
    #[error(
        "{reference}: this build cannot reach the Hub; build fgvr-encoder with the feature `hub`, \
         or download the repository and give its local path"
    )]
    NoHub {
        /// The reference.
        reference: String,
    },
    /// A tensor that an index says a shard has.
    #[error("{}: has no tensor {name}, which its index says it has", file.display())]
    NotInShard {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        name: String,
    },
    /// Asked for a tensor that is not there.
    #[error("{from}: has no tensor {name}")]
    NoSuchTensor {
        /// The weights.
        from: String,
        /// The tensor.
        name: String,
    },
    /// Weights of another network.
    #[error("{from}: holds {found}, expected {expected}")]
    Architecture {
        /// The weights.
        from: String,
        /// The network that was built.
        expected: String,
        /// The network that the weights are of.
        found: String,
    },
    /// Weights whose tensors are those of several architectures, and nothing tells of which.
    #[error(
        "{from}: holds {found}, and nothing beside its tensors says whether it is {}; they differ in the padding of \
         borders and the epsilon of norms, so that features of the wrong one look right and are not; set \
         encoder.architecture to the one it was trained as",
        candidates.join(" or ")
    )]
    Untold {
        /// The weights.
        from: String,
        /// The network that the tensors are of.
        found: String,
        /// The architectures with such tensors, each with what it computes.
        candidates: Vec<String>,
    },
    /// Weights whose tensors fit, and that were trained as another network.
    #[error(
        "{from}: these weights are of another network, and would give other features than it was trained for: {}; \
         if that is meant, allow by name: {}",
        mismatches.iter().map(|mismatch| mismatch.what.as_str()).collect::<Vec<_>>().join("; "),
        mismatches.iter().flat_map(names_of).map(String::as_str).collect::<Vec<_>>().join(", ")
    )]
    Unsupported {
        /// The weights.
        from: String,
        /// What does not fit.
        mismatches: Vec<crate::weights::Mismatch>,
    },
    /// A name allowed not to fit that is neither a tensor nor a key of the configuration.
    #[error(
        "{pattern:?} is allowed not to fit, but neither a tensor nor a key of config.json has that name; \
         names are like \"architecture\", or `layer1.*` for all tensors under one"
    )]
    AllowMismatch {
        /// The name or pattern.
        pattern: String,
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
    /// No tensor has a variable's name under any prefix: another architecture, or no trunk at all.
    #[error(
        "{from}: none of its {found} tensors has the name of a variable; \
         expected names like {expected:?}, found names like {example:?}"
    )]
    NothingLoaded {
        /// The weights.
        from: String,
        /// Tensors in the file.
        found: usize,
        /// A variable's name.
        expected: String,
        /// A name in the file.
        example: String,
    },
    /// Variables that the weights lack and that were not allowed to be missing.
    #[error(
        "{from}: read as {layout}, it lacks {}{}; if that is meant, allow these names to be missing",
        shortened(missing),
        if unexpected.is_empty() { String::new() } else { format!("; it has {}", shortened(unexpected)) }
    )]
    Missing {
        /// The weights.
        from: String,
        /// The layout of names found.
        layout: String,
        /// Variables without a tensor.
        missing: Vec<String>,
        /// Tensors without a variable.
        unexpected: Vec<String>,
    },
    /// A name allowed to be missing that no variable has.
    #[error(
        "{pattern:?} is allowed to be missing, but no variable has that name; \
         names are like {example:?}, or `layer4.*` for all under one"
    )]
    AllowMissing {
        /// The name or pattern.
        pattern: String,
        /// A variable's name.
        example: String,
    },
    /// [`LoadReport::strict`](crate::weights::LoadReport::strict): names that do not match.
    #[error("{from}: missing {missing:?}; unexpected {unexpected:?}")]
    Incomplete {
        /// The weights.
        from: String,
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
        r#source: candle_core::Error,
    },
    /// A text that names nothing on the Hub.
    #[error(transparent)]
    HubReference(#[from] crate::hub::ReferenceError),
    /// A network that a format for other programs does not have.
    #[error("export: {problem}")]
    Export {
        /// What it is, and what to do.
        problem: String,
    },
    /// The Hub or its cache.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
}

impl Error {
    /// Whether a person can mend it (a name, a file, a setting, the network), rather than the program
    /// that calls: all but an operation that failed.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Tensor { .. })
    }

    /// The names that [`LoadOptions::allow_mismatch`](crate::LoadOptions::allow_mismatch) takes to load the weights in
    /// spite of this error, if that can be.
    #[must_use]
    pub fn allowed_by(&self) -> Option<Vec<String>> {
        match self {
            Self::Unsupported { mismatches, .. } => {
                let names = mismatches.iter().flat_map(names_of);
                Some(names.cloned().collect())
            }
            _ => None,
        }
    }

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

/// The names that allow a mismatch: of several names for one key the first.
fn names_of(mismatch: &crate::weights::Mismatch) -> &[String] {
    match mismatch.names.as_slice() {
        names if names.iter().all(|name| name.contains('*')) => names,
        names => &names[..names.len().min(1)],
    }
}

/// The first few of `names`, and how many more there are.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let text = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}
