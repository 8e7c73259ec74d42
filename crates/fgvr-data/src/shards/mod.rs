//! WebDataset shards: tar archives whose consecutive members of one key are a sample.
//!
//! Nothing is unpacked. The headers are read once, and kept is where each image lies; an image is then read at its
//! place when it is asked for, from a file of its own that is opened for it, so that threads share no cursor. A data
//! set of shards is thus one of images by index, as a folder is: the loader shuffles all of it anew every epoch.

mod classes;
mod index;
mod members;
mod opening;
mod problem;
mod range;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use index::ShardIndex;
pub(crate) use opening::{open_folder, open_named};
pub use problem::ShardProblem;
pub(crate) use problem::placed;

use crate::{Dataset, Error, Image, decode_bytes};

/// The most bytes that an image in a shard may have: 256 MiB.
pub const MAX_MEMBER: u64 = 1 << 28;

/// One shard of an open set.
#[derive(Debug)]
struct Shard {
    /// From the folder that was opened, as [`id_of`](crate::id_of) writes it.
    id: String,
    path: PathBuf,
    /// Its length when it was indexed.
    bytes: u64,
    index: ShardIndex,
}

/// One image of an open set.
#[derive(Clone, Copy, Debug)]
struct Row {
    shard: u32,
    /// Its position in the shard.
    image: u32,
    label: Option<u32>,
}

/// Images in tar shards, by shard and in each in the order in which they are stored.
///
/// A sample are consecutive members whose paths are equal up to the first dot of the base name, as WebDataset has it. Its image
/// is called KEY.jpg, .jpeg, .png, .webp or .bmp, its class is the number in KEY.cls; other members are passed over and counted. The file
/// `classes.txt` beside the shards names the classes, one a line, the first of them being 0; without it, their numbers
/// are their names. [`open`](crate::open()) opens a folder of shards, a range of them (`train-{000000..000009}.tar`) or a single one.
///
/// About 40 bytes an image and its name are kept in memory.
#[derive(Clone, Debug)]
pub struct Shards {
    name: String,
    shards: Arc<[Shard]>,
    rows: Vec<Row>,
    classes: Vec<String>,
    max_pixels: u64,
}

impl Shards {
    /// The same set with only the images that `keep` says yes to.
    fn subset(&self, keep: impl Fn(usize) -> bool) -> Self {
        let rows = self.rows.iter().enumerate();
        Self {
            rows: rows
                .filter(|(i, _)| keep(*i))
                .map(|(_, row)| *row)
                .collect(),
            ..self.clone()
        }
    }

    fn row(&self, index: usize) -> Result<(&Shard, Row), Error> {
        let row = self.rows.get(index).copied();
        let found = row.and_then(|row| Some((self.shards.get(row.shard as usize)?, row)));
        found.ok_or_else(|| Error::IndexOutOfRange {
            set: self.name.clone(),
            index,
            len: self.rows.len(),
        })
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, Error> {
        let (shard, row) = self.row(index)?;
        let image = row.image as usize;
        let Some((offset, length)) = shard.index.place(image) else {
            return Ok(Vec::new());
        };
        let io = |source| Error::Io {
            path: shard.path.clone(),
            source,
        };
        let mut file = File::open(&shard.path).map_err(io)?;
        let (was, is) = (shard.bytes, file.metadata().map_err(io)?.len());
        if was != is {
            return Err(Error::Shard {
                path: shard.path.clone(),
                offset,
                member: Some(shard.index.name(image).to_owned()),
                problem: ShardProblem::Changed { was, is },
            });
        }
        // At most MAX_MEMBER, and the file has as many.
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}

impl Dataset for Shards {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        let bytes = self.read(index)?;
        decode_bytes(&bytes, Path::new(&self.id(index)), self.max_pixels)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.rows.get(index)?.label
    }

    /// `SHARD.tar/KEY.jpg`, the shard being the path from the folder that was opened.
    fn id(&self, index: usize) -> String {
        match self.row(index) {
            Ok((shard, row)) => format!("{}/{}", shard.id, shard.index.name(row.image as usize)),
            Err(_) => String::new(),
        }
    }

    fn encoded_length(&self, index: usize) -> Option<u64> {
        let (shard, row) = self.row(index).ok()?;
        shard
            .index
            .place(row.image as usize)
            .map(|(_, length)| length)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, Error> {
        self.read(index).map(Some)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Endings of archives that are compressed as a whole, so that nothing in them can be read at its place, with the
/// program that undoes it.
const COMPRESSED: &[(&str, &str)] = &[
    (".tar.gz", "gzip"),
    (".tgz", "gzip"),
    (".tar.bz2", "bzip2"),
    (".tbz2", "bzip2"),
    (".tar.xz", "xz"),
    (".txz", "xz"),
    (".tar.zst", "zstd"),
    (".tzst", "zstd"),
];

/// What the archive called `name` is compressed with.
fn compressed_by_name(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let found = COMPRESSED.iter().find(|(ending, _)| name.ends_with(ending));
    found.map(|(_, program)| *program)
}

/// What a file that begins with `start` is compressed with.
fn compressed_by_content(start: &[u8]) -> Option<&'static str> {
    let magic: [(&[u8], _); 4] = [
        (b"\x1f\x8b", "gzip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ];
    let found = magic.iter().find(|(magic, _)| start.starts_with(magic));
    found.map(|(_, program)| *program)
}

fn compressed(path: &Path, program: &str) -> Error {
    Error::Kind {
        path: path.to_owned(),
        kind: format!(
            "an archive compressed with {program}, in which no image can be read by itself"
        ),
        remedy: match program {
            "gzip" => "undo that with `gunzip`; the images are compressed already",
            "bzip2" => "undo that with `bunzip2`; the images are compressed already",
            "xz" => "undo that with `unxz`; the images are compressed already",
            _ => "undo that with `unzstd`; the images are compressed already",
        },
    }
}

#[cfg(test)]
mod tests;
