//! The arrays of an npz archive, stored or deflated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use super::npy::{self, Array};
use crate::{Error, Result};

/// Where an array lies in the archive.
struct Entry {
    start: u64,
    bytes: u64,
    deflated: bool,
}

/// An opened archive.
pub(crate) struct Npz {
    path: String,
    file: File,
    entries: BTreeMap<String, Entry>,
}

impl Npz {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    /// No file, or no archive of arrays.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let problem = |problem: String| Error::config(&name, problem);
        let file = File::open(path).map_err(Error::io(path))?;
        let about = file.metadata().map_err(Error::io(path))?;
        if !about.is_file() {
            return Err(problem(
                "is no file; expected an npz archive of arrays".to_owned(),
            ));
        }
        let no_archive = |error: zip::result::ZipError| {
            problem(format!(
                "is no npz archive ({error}); expected what numpy.savez or `fgvr embed --out F.npz` writes"
            ))
        };
        let mut zip = ZipArchive::new(BufReader::new(&file)).map_err(no_archive)?;
        let mut entries = BTreeMap::new();
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(no_archive)?;
            let Ok(name) = str::from_utf8(entry.name_raw()) else {
                continue;
            };
            let Some(array) = name.strip_suffix(".npy") else {
                continue;
            };
            let deflated = match entry.compression() {
                CompressionMethod::STORE => false,
                CompressionMethod::DEFLATE => true,
                other => {
                    return Err(problem(format!(
                        "{array} is compressed by {other}, expected none or deflate"
                    )));
                }
            };
            let start = entry.data_start();
            let start =
                start.ok_or_else(|| problem(format!("{array} has no place in the archive")))?;
            let place = Entry {
                start,
                bytes: entry.compressed_size(),
                deflated,
            };
            let array = array.to_owned();
            if entries.insert(array.clone(), place).is_some() {
                return Err(problem(format!("has {array} twice")));
            }
        }
        drop(zip);
        Ok(Self {
            path: name,
            file,
            entries,
        })
    }

    /// The names of the arrays.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The array `name`; `None` where there is none.
    ///
    /// # Errors
    /// An array that is damaged, or of objects.
    pub(crate) fn read(&mut self, name: &str) -> Result<Option<Array>> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(None);
        };
        let io = |error: std::io::Error| Error::config(&self.path, format!("{name}: {error}"));
        self.file.seek(SeekFrom::Start(entry.start)).map_err(io)?;
        let stored = BufReader::new((&self.file).take(entry.bytes));
        let array = match entry.deflated {
            false => npy::read(&mut { stored }),
            true => npy::read(&mut DeflateDecoder::new(stored)),
        };
        let array =
            array.map_err(|what| Error::config(&self.path, format!("the array {name} {what}")))?;
        Ok(Some(array))
    }
}
