//! What can go wrong between a data set's name and a batch.

use std::path::PathBuf;

use crate::name::shown_path;

/// An error of this crate. Its text is one line, whatever a file is called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An index past the end of a data set.
    #[error("{set} has {len} images, so there is none at index {index}")]
    IndexOutOfRange {
        /// The data set.
        set: String,
        /// The index asked for.
        index: usize,
        /// How many images the set has.
        len: usize,
    },

    /// A setting outside its range.
    #[error("{setting} is {found}, expected {expected}")]
    Setting {
        /// The setting's name, as in a configuration file.
        setting: &'static str,
        /// The value given.
        found: String,
        /// What it may be.
        expected: String,
    },

    /// A name that is neither a built-in set nor a folder.
    #[error("{spec}: no such data set; expected \"builtin:lookalikes\" or a folder of photos")]
    UnknownSet {
        /// The name given.
        spec: String,
    },

    /// A folder that is not there.
    #[error(
        "{}: no such folder; name a folder of photos or builtin:lookalikes",
        shown_path(path)
    )]
    NoFolder {
        /// Where it was looked for.
        path: PathBuf,
    },

    /// A file where a folder is expected.
    #[error("{}: not a folder", shown_path(path))]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },

    /// A folder without photos.
    #[error("{}: no images (jpg, jpeg, png, webp, bmp) in this folder or below; name a folder that holds some{}{unused}", shown_path(path), if unused.is_empty() { "" } else { "; " })]
    NoPhotos {
        /// The folder.
        path: PathBuf,
        /// What was passed over and what cannot be read, in words; empty without any.
        unused: String,
    },

    /// Folders that do not say what is to be trained on.
    #[error("{}: {problem}", shown_path(path))]
    Layout {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A tar shard that is not as it should be; nothing of it is used.
    #[error("{}", crate::shards::placed(path, *offset, member.as_deref(), problem))]
    Shard {
        /// The shard.
        path: PathBuf,
        /// Where in it, in bytes from its beginning.
        offset: u64,
        /// The member or sample concerned, where there is one.
        member: Option<String>,
        /// What is wrong.
        problem: crate::ShardProblem,
    },

    /// Shards of a range that are not there.
    #[error(
        "{}: no such shard; {missing} of the {all} that are named are missing",
        shown_path(path)
    )]
    NoShard {
        /// The first that is missing.
        path: PathBuf,
        /// How many are missing.
        missing: usize,
        /// How many are named.
        all: usize,
    },

    /// A list of images, labels or boxes that is damaged or contradicts another.
    #[error("{}: {place}: {problem}", shown_path(path))]
    Index {
        /// The list.
        path: PathBuf,
        /// Where in it: a line, an entry or a byte.
        place: String,
        /// What is expected there, and what is found.
        problem: String,
    },

    /// A file or folder that the system does not give or take.
    #[error("{}: {source}", shown_path(path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        r#source: std::io::Error,
    },

    /// A file that is not a picture of a known format, or a damaged one.
    #[error("{}: {source}", shown_path(path))]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's error.
        r#source: image::ImageError,
    },

    /// A picture that ends before its last pixel.
    #[error("{}: truncated, {problem}", shown_path(path))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        problem: &'static str,
    },

    /// A file of a kind that the decoders would get wrong.
    #[error("{}: {kind}; {remedy}", shown_path(path))]
    Kind {
        /// The file.
        path: PathBuf,
        /// What kind of file it is.
        kind: String,
        /// What to do about it.
        remedy: &'static str,
    },

    /// A file far too small for a photo of so many pixels; nothing was allocated for it.
    #[error(
        "{}: {pixels} pixels in a file of {bytes} bytes, which no photo has; save it again with fewer pixels",
        shown_path(path)
    )]
    Expands {
        /// The file.
        path: PathBuf,
        /// How many pixels its header tells.
        pixels: u64,
        /// How long it is.
        bytes: u64,
    },

    /// A picture or file larger than allowed; nothing was allocated for it.
    #[error("{}: {what} is {found}, expected at most {most}", shown_path(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: u64,
        /// The limit.
        most: u64,
    },

    /// An [`Image`](crate::Image) whose bytes do not fit its size, or without any.
    #[error(
        "{id}: image of {width} x {height} with {bytes} bytes, expected 3 * {width} * {height}"
    )]
    Malformed {
        /// The image's name in its set.
        id: String,
        /// Its width.
        width: usize,
        /// Its height.
        height: usize,
        /// How many bytes it has.
        bytes: usize,
    },

    /// A view of the wrong length.
    #[error("transform: a view of image {index} has {found} values, expected 3 * {size} * {size}")]
    View {
        /// The image.
        index: usize,
        /// How many values the view has.
        found: usize,
        /// Its side, as the loader was told.
        size: usize,
    },

    /// Fewer images than one batch takes.
    #[error(
        "loader: {images} images do not fill a batch of {batch}; take smaller batches or keep the last, smaller one"
    )]
    NoBatch {
        /// How many images there are.
        images: usize,
        /// Images per batch.
        batch: usize,
    },

    /// More unreadable images than the budget allows.
    #[error(
        "{found} unreadable images, the budget is {budget} of {images}; remove them or raise loader.bad_image_budget; the first: {first}"
    )]
    TooManyUnreadable {
        /// How many were found.
        found: usize,
        /// How many are allowed.
        budget: usize,
        /// How many images there are in all.
        images: usize,
        /// Which is the first, and why.
        first: String,
    },

    /// A worker of the loader that gave up.
    #[error("loader: {problem}")]
    Worker {
        /// What happened.
        problem: String,
    },

    /// A tensor of an unexpected shape, or another error of candle's.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// Whether settings, folders or photos are at fault, rather than the program that calls.
    #[must_use]
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Setting { .. }
            | Self::UnknownSet { .. }
            | Self::NoFolder { .. }
            | Self::NotAFolder { .. }
            | Self::NoPhotos { .. }
            | Self::Layout { .. }
            | Self::Shard { .. }
            | Self::NoShard { .. }
            | Self::Index { .. }
            | Self::Io { .. }
            | Self::Decode { .. }
            | Self::Truncated { .. }
            | Self::Kind { .. }
            | Self::Expands { .. }
            | Self::TooLarge { .. }
            | Self::NoBatch { .. }
            | Self::TooManyUnreadable { .. } => true,
            Self::IndexOutOfRange { .. }
            | Self::Malformed { .. }
            | Self::View { .. }
            | Self::Worker { .. }
            | Self::Tensor(_) => false,
        }
    }
}
