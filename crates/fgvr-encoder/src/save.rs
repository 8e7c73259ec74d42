//! Variables into a safetensors file, whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Tensor};
use fgvr_nn::Parameters;
use serde_json::{Value, json};

use crate::Error;

/// Whether [`save`] may replace a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// A file that is there already is an error.
    Never,
    /// A file that is there already is replaced, whole or not at all.
    Replace,
}

/// Writes every variable, running statistics included, under its name, with `metadata` in the
/// header. The same variables and metadata give the same bytes.
///
/// The file is written beside `path`, synced, and renamed: a reader sees the old file, none, or the
/// new one.
///
/// # Errors
/// [`Error::Exists`], [`Error::Io`]; [`Error::DataType`] for a variable that is not f32.
pub fn save(
    path: impl AsRef<Path>,
    parameters: &Parameters,
    metadata: &BTreeMap<String, String>,
    overwrite: Overwrite,
) -> Result<(), Error> {
    let path = path.as_ref();
    if overwrite == Overwrite::Never && path.exists() {
        return Err(Error::Exists { file: path.into() });
    }
    parameters.to_host().map_err(|source| Error::Tensor {
        name: "the variables".to_owned(),
        source,
    })?;
    let vars = parameters.all();
    let mut header = BTreeMap::<&str, Value>::new();
    if !metadata.is_empty() {
        header.insert("__metadata__", json!(metadata));
    }
    let mut end = 0;
    for (name, var) in &vars {
        if var.dtype() != DType::F32 {
            return Err(Error::data_type(path.into(), name, "f32", var.dtype()));
        }
        let start = end;
        end += var.elem_count() * size_of::<f32>();
        let info = json!({"dtype": "F32", "shape": var.dims(), "data_offsets": [start, end]});
        header.insert(name, info);
    }
    let mut header = json!(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let beside = beside(path);
    let before = path.metadata().ok().filter(fs::Metadata::is_file);
    let io = |source| Error::Io {
        file: path.into(),
        source,
    };
    let written = write(
        &beside,
        &header,
        vars.iter().map(|(name, var)| (name, var.as_tensor())),
        path,
    )
    // Whoever could read the file that is replaced can read the new one, and nobody else.
    .and_then(|()| match before {
        Some(before) => fs::set_permissions(&beside, before.permissions()).map_err(io),
        None => Ok(()),
    })
    .and_then(|()| fs::rename(&beside, path).map_err(io))
    .and_then(|()| sync_folder(path).map_err(io));
    if written.is_err() {
        // The first error is the one to report; the file may not even have been made.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write<'a>(
    beside: &Path,
    header: &[u8],
    tensors: impl Iterator<Item = (&'a String, &'a Tensor)>,
    path: &Path,
) -> Result<(), Error> {
    let io = |source| Error::Io {
        file: path.into(),
        source,
    };
    let file = File::create(beside).map_err(io)?;
    let mut file = BufWriter::new(file);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(io)?;
    file.write_all(header).map_err(io)?;
    for (name, tensor) in tensors {
        let values = tensor
            .flatten_all()
            .and_then(|flat| flat.to_vec1::<f32>())
            .map_err(|source| Error::Tensor {
                name: name.clone(),
                source,
            })?;
        for value in values {
            file.write_all(&value.to_le_bytes()).map_err(io)?;
        }
    }
    let file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
}

/// A name in the same folder, so that the rename stays within one file system, and that no other
/// call uses at the same time. What a killed process left under it is overwritten.
fn beside(path: &Path) -> PathBuf {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{call}.partial", std::process::id()));
    path.with_file_name(name)
}

/// Makes the rename itself durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Only Unix lets a folder be opened and synced.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
