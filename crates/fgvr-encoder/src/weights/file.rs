//! One file of weights: its length, its SHA-256, and any part of it on request.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::Error;

/// A file as it was when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FileInfo {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What a file is read through.
pub(crate) trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// An open file, or bytes that stand for one.
pub(crate) struct StoredFile {
    pub(crate) info: FileInfo,
    reader: Mutex<Box<dyn ReadSeek>>,
}

impl StoredFile {
    /// Opens `path` and reads it once for its hash.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        // A folder opens on Unix and fails only when read.
        let metadata = file.metadata().map_err(|source| io_error(path, source))?;
        if !metadata.is_file() {
            let reason = io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file");
            return Err(io_error(path, reason));
        }
        Self::new(path, Box::new(file))
    }

    /// Bytes under the name of a file.
    pub(crate) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::new(path, Box::new(Cursor::new(bytes)))
    }

    fn new(path: &Path, mut reader: Box<dyn ReadSeek>) -> Result<Self, Error> {
        let (bytes, sha256) = hash(&mut reader).map_err(|source| io_error(path, source))?;
        Ok(Self {
            info: FileInfo {
                path: path.to_path_buf(),
                bytes,
                sha256,
            },
            reader: Mutex::new(reader),
        })
    }

    /// The `count` bytes that begin at `offset`; nothing is allocated unless the file has them.
    pub(crate) fn read_at(&self, offset: u64, count: u64) -> Result<Vec<u8>, Error> {
        let end = offset.checked_add(count);
        let size = usize::try_from(count).ok();
        let (Some(_), Some(size)) = (end.filter(|end| *end <= self.info.bytes), size) else {
            return Err(Error::Length {
                file: self.info.path.clone(),
                expected: offset.saturating_add(count),
                found: self.info.bytes,
            });
        };
        self.with_reader(|reader| {
            let mut buffer = vec![0; size];
            reader.seek(SeekFrom::Start(offset))?;
            reader.read_exact(&mut buffer)?;
            Ok(buffer)
        })
        .map_err(|source| io_error(&self.info.path, source))
    }

    /// Calls `work` with the reader, at whatever place it is.
    pub(crate) fn with_reader<T>(&self, work: impl FnOnce(&mut dyn ReadSeek) -> T) -> T {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut **reader)
    }
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        file: path.to_path_buf(),
        source,
    }
}

/// Length and SHA-256 of what `reader` holds, a piece at a time.
fn hash(reader: &mut dyn ReadSeek) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        bytes += count as u64;
    }
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok((bytes, text))
}
