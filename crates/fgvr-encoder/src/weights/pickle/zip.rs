//! The zip archive that `torch.save` writes since version 1.6.

use std::collections::BTreeMap;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::MAX_PICKLE;
use super::archive::{Archive, Record, View, format_error};
use super::machine::{Budget, Machine};
use super::state;
use crate::Error;
use crate::weights::file::StoredFile;
use crate::weights::foreign;

/// Inflated bytes allowed for a file of `bytes`: weights hardly compress, so more is an attack.
fn inflated_limit(bytes: u64) -> u64 {
    bytes.saturating_mul(4).saturating_add(1 << 20)
}

/// Reads the records of the zip and the tensors of the pickle in it.
pub(crate) fn open(file: &StoredFile) -> Result<(Archive, BTreeMap<String, View>), Error> {
    let archive = Archive::open(file)?;
    let format = |reason: String| format_error(file, reason);
    let mut pickles = archive.records.keys().filter_map(|name| {
        let folder = name.strip_suffix("data.pkl")?;
        (folder.is_empty() || folder.ends_with('/')).then_some(folder)
    });
    let (Some(folder), None) = (pickles.next(), pickles.next()) else {
        return Err(foreign::zip_of(file, archive.records.keys()));
    };
    if archive
        .records
        .contains_key(&format!("{folder}constants.pkl"))
    {
        return Err(format(
            "a TorchScript program; save its weights with torch.save(model.state_dict(), ...)"
                .to_owned(),
        ));
    }
    if let Some(order) = archive.records.get(&format!("{folder}byteorder")) {
        let order = archive.read(file, order, 0, order.size.min(16))?;
        if order != b"little" {
            return Err(format(format!(
                "its byte order is {:?}, expected little",
                String::from_utf8_lossy(&order)
            )));
        }
    }
    let record = &archive.records[&format!("{folder}data.pkl")];
    if record.size > MAX_PICKLE {
        return Err(format(format!(
            "its pickle is {} bytes, more than the {MAX_PICKLE} allowed",
            record.size
        )));
    }
    let text = archive.read(file, record, 0, record.size)?;
    let mut machine = Machine::new(&text, 0, Budget::for_file(file.info.bytes));
    let root = machine.run().map_err(|error| format(error.to_string()))?;
    let found = state::tensors(&mut machine, root).map_err(|error| format(error.to_string()))?;
    let views = archive.views(file, found, |key| format!("{folder}data/{key}"))?;
    Ok((archive, views))
}

impl Archive {
    fn open(file: &StoredFile) -> Result<Self, Error> {
        let format = |reason: String| format_error(file, reason);
        let records = file.with_reader(|reader| {
            let mut zip = ZipArchive::new(reader).map_err(unreadable)?;
            if zip.has_duplicate_names() {
                return Err("two records have one name".to_owned());
            }
            let mut records = BTreeMap::new();
            for index in 0..zip.len() {
                let entry = zip.by_index_raw(index).map_err(|error| error.to_string())?;
                let Ok(name) = str::from_utf8(entry.name_raw()) else {
                    continue;
                };
                let name = name.to_owned();
                let deflated = match entry.compression() {
                    CompressionMethod::STORE => false,
                    CompressionMethod::DEFLATE => true,
                    other => return Err(format!("{name} is compressed by {other}")),
                };
                if entry.encrypted() {
                    return Err(format!("{name} is encrypted"));
                }
                let start = entry
                    .data_start()
                    .ok_or_else(|| format!("{name} has no place"))?;
                let record = Record {
                    start,
                    compressed: entry.compressed_size(),
                    size: entry.size(),
                    deflated,
                };
                records.insert(name, record);
            }
            Ok(records)
        });
        let records = records.map_err(format)?;
        let limit = inflated_limit(file.info.bytes);
        let mut inflated = 0u64;
        for (name, record) in &records {
            let end = record.start.checked_add(record.compressed);
            if end.is_none_or(|end| end > file.info.bytes) {
                return Err(Error::Length {
                    file: file.info.path.clone(),
                    expected: end.unwrap_or(u64::MAX),
                    found: file.info.bytes,
                });
            }
            if record.deflated {
                inflated = inflated.saturating_add(record.size);
            } else if record.size != record.compressed {
                return Err(format(format!("{name} is stored, but of two sizes")));
            }
        }
        if inflated > limit {
            return Err(format(format!(
                "its records would inflate to {inflated} bytes, more than the {limit} allowed"
            )));
        }
        Ok(Self { records })
    }
}

/// Why no directory of records was found: it stands at the end.
fn unreadable(error: ZipError) -> String {
    match error {
        ZipError::InvalidArchive(what) => {
            format!(
                "the end of its zip archive is missing or damaged ({what}); was its download cut?"
            )
        }
        other => other.to_string(),
    }
}
