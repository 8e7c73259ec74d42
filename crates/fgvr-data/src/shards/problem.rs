//! What can be wrong with a tar shard.

use std::path::Path;

use crate::name::shown_path;
use crate::shown;

/// What is wrong with a shard, at the place that [`Error::Shard`](crate::Error::Shard) names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardProblem {
    /// A header whose checksum does not hold.
    #[error("no header of a tar archive: it is no such archive, or damaged")]
    NotAHeader,
    /// A number in a header that cannot be read.
    #[error("the {0} in its header is no number")]
    Number(&'static str),
    /// A member that claims more bytes than are left.
    #[error(
        "it claims {size} bytes, and the file ends {missing} bytes before that; download it again, if that was cut short"
    )]
    PastEnd {
        /// Bytes claimed.
        size: u64,
        /// How many of them lie past the end of the file.
        missing: u64,
    },
    /// A file that ends without the two blocks of zeros that close an archive.
    #[error(
        "the archive ends early, at least {missing} bytes are missing; download it again, if that was cut short"
    )]
    Truncated {
        /// Bytes of the archive that are missing at the least.
        missing: u64,
    },
    /// Something that follows the end of the archive.
    #[error(
        "more follows the end of the archive; if it is two archives in one file, join them with `tar --concatenate`"
    )]
    AfterEnd,
    /// A name from the root of the file system.
    #[error("its name is an absolute path; names in shards begin below the archive")]
    Absolute,
    /// A name with `..`.
    #[error("its name leads out of the archive by `..`")]
    Parent,
    /// A member without name.
    #[error("it has no name")]
    NoName,
    /// Two headers that give one member a name or more, or headers that describe no member.
    #[error("two extended headers describe one member, or none follows them")]
    Extended,
    /// An extended header that is no list of records.
    #[error("its extended (pax) header is damaged")]
    Pax,
    /// A member longer than allowed.
    #[error("it has {size} bytes, expected at most {most}")]
    TooLarge {
        /// Bytes it has.
        size: u64,
        /// Bytes it may have.
        most: u64,
    },
    /// A sparse member, whose content does not lie in the archive in one piece.
    #[error("it is stored as a sparse file; write the archive again without --sparse")]
    Sparse,
    /// A class that is no number.
    #[error("the class is {0:?}, expected a number from 0 to 4294967294")]
    Class(String),
    /// A class that `classes.txt` has no name of.
    #[error("the class is {class}, and classes.txt names {classes}, counted from 0")]
    UnknownClass {
        /// The class found.
        class: u32,
        /// How many are named.
        classes: usize,
    },
    /// A sample with two images.
    #[error(
        "the sample has two images; only one is expected, called KEY.jpg, .jpeg, .png, .webp or .bmp"
    )]
    TwoImages,
    /// A sample with two classes.
    #[error("the sample has two members .cls")]
    TwoClasses,
    /// A sample without an image.
    #[error(
        "the sample has no image KEY.jpg, .jpeg, .png, .webp or .bmp; a key ends at the first dot of a name"
    )]
    NoImage,
    /// Two samples with one key.
    #[error(
        "another sample of this shard has the same key; the members of a sample must follow each other"
    )]
    SameKey,
    /// Samples of which some have a class and some have none.
    #[error(
        "labels disagree: {without} of {all} samples beside it have no member .cls, as this one; set data.labels=none to use them without labels"
    )]
    SomeWithoutClass {
        /// Samples without a class.
        without: usize,
        /// All samples of the split.
        all: usize,
    },
    /// A shard that is not what it was when it was opened.
    #[error("the shard changed since it was opened: it had {was} bytes and has {is}")]
    Changed {
        /// Its length when it was indexed.
        was: u64,
        /// Its length now.
        is: u64,
    },
}

/// The error's one line.
pub(crate) fn placed(
    path: &Path,
    offset: u64,
    member: Option<&str>,
    problem: &ShardProblem,
) -> String {
    let path = shown_path(path);
    match member {
        Some(member) => format!("{path}: {} at byte {offset}: {problem}", shown(member)),
        None => format!("{path}: at byte {offset}: {problem}"),
    }
}
