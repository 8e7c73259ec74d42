//! What `torch.save` writes: a zip of a pickle and of the storages it names.
//!
//! The pickle is read by a machine that knows the few names state dicts are made of; everything
//! else in it becomes a value that nothing can be done with. No code is run and nothing is imported.
//! Memory is bounded by the file: see [`Budget`](machine::Budget).
//!
//! # Design choice
//! candle has a reader for these files too. It allocates by the length fields it finds, copies
//! shared values, and refuses files with objects in them such as a training script's arguments.

mod machine;
mod opcodes;
mod state;
mod torch;
mod value;

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use super::file::StoredFile;
use super::tensor::{TensorInfo, count};
use crate::Error;
use machine::{Budget, Machine};

/// The largest pickle accepted: those of large language models take a few MB.
const MAX_PICKLE: u64 = 64 << 20;

/// Inflated bytes allowed for a file of `bytes`: weights hardly compress, so more is an attack.
fn inflated_limit(bytes: u64) -> u64 {
    bytes.saturating_mul(4).saturating_add(1 << 20)
}

/// A record of the zip.
struct Record {
    start: u64,
    compressed: u64,
    size: u64,
    deflated: bool,
}

/// Where a tensor's values lie: a storage, and how to walk it.
pub(crate) struct View {
    pub(crate) info: TensorInfo,
    record: String,
    /// In values, not bytes, as the strides are.
    offset: usize,
    strides: Vec<usize>,
}

/// A file of `torch.save`, opened.
pub(crate) struct Archive {
    records: BTreeMap<String, Record>,
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
        return Err(format(
            "expected one record data.pkl, as torch.save writes".to_owned(),
        ));
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
    let mut machine = Machine::new(&text, Budget::for_file(file.info.bytes));
    let root = machine.run().map_err(|error| format(error.to_string()))?;
    let found = state::tensors(&mut machine, root).map_err(|error| format(error.to_string()))?;
    let mut views = BTreeMap::new();
    for (name, tensor) in found {
        let record = format!("{folder}data/{}", tensor.key);
        let view = archive
            .view(record, tensor)
            .map_err(|reason| format(format!("{name}: {reason}")))?;
        if views.insert(name.clone(), view).is_some() {
            return Err(format(format!("{name:?} stands twice")));
        }
    }
    if views.is_empty() {
        return Err(format(
            "its pickle holds no state dict; save one with torch.save(model.state_dict(), ...)"
                .to_owned(),
        ));
    }
    Ok((archive, views))
}

impl Archive {
    fn open(file: &StoredFile) -> Result<Self, Error> {
        let format = |reason: String| format_error(file, reason);
        let records = file.with_reader(|reader| {
            let mut zip = ZipArchive::new(reader).map_err(|error| error.to_string())?;
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

    /// `count` bytes of `record` from `offset` on.
    fn read(
        &self,
        file: &StoredFile,
        record: &Record,
        offset: u64,
        count: u64,
    ) -> Result<Vec<u8>, Error> {
        let end = offset.checked_add(count).filter(|end| *end <= record.size);
        let Some(end) = end else {
            return Err(format_error(file, "a read beyond a record".to_owned()));
        };
        if !record.deflated {
            return file.read_at(record.start + offset, count);
        }
        let compressed = file.read_at(record.start, record.compressed)?;
        let mut bytes = Vec::new();
        let io = |source| Error::Io {
            file: file.info.path.clone(),
            source,
        };
        let mut decoder = DeflateDecoder::new(compressed.as_slice()).take(end);
        std::io::copy(&mut decoder.by_ref().take(offset), &mut std::io::sink()).map_err(io)?;
        decoder.read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 != count {
            return Err(format_error(
                file,
                "a record inflates to less than its size".to_owned(),
            ));
        }
        Ok(bytes)
    }

    /// Checks that `tensor` stays within its storage.
    fn view(&self, name: String, tensor: torch::Tensor) -> Result<View, String> {
        let torch::Tensor {
            dtype,
            offset,
            shape,
            strides,
            ..
        } = tensor;
        let Some(record) = self.records.get(&name) else {
            return Err(format!("its storage {name} is not in the file"));
        };
        let held = usize::try_from(record.size).unwrap_or(usize::MAX) / dtype.size();
        let values = count(&shape).ok_or("its shape is too large")?;
        if shape.len() != strides.len() {
            return Err(format!("shape {shape:?} with strides {strides:?}"));
        }
        if values > 0 {
            let span = span(&shape, &strides).and_then(|span| span.checked_add(offset));
            // A view that repeats its storage would let a small file ask for any amount of memory.
            if span.is_none_or(|end| end > held) || values > held {
                return Err(format!(
                    "shape {shape:?}, strides {strides:?} and offset {offset} do not fit the \
                     {held} values of its storage"
                ));
            }
        }
        Ok(View {
            info: TensorInfo { shape, dtype },
            record: name,
            offset,
            strides,
        })
    }

    /// The values of `view` in row-major order, as bytes.
    pub(crate) fn values(&self, file: &StoredFile, view: &View) -> Result<Vec<u8>, Error> {
        let TensorInfo { shape, dtype } = &view.info;
        let size = dtype.size();
        let values = count(shape).unwrap_or(0);
        if values == 0 {
            return Ok(Vec::new());
        }
        let span = span(shape, &view.strides).unwrap_or(0);
        let record = &self.records[&view.record];
        let bytes = self.read(
            file,
            record,
            (view.offset * size) as u64,
            (span * size) as u64,
        )?;
        if is_row_major(shape, &view.strides) {
            return Ok(bytes);
        }
        let mut ordered = Vec::with_capacity(values * size);
        let mut index = vec![0; shape.len()];
        for _ in 0..values {
            let at: usize = index.iter().zip(&view.strides).map(|(i, s)| i * s).sum();
            ordered.extend_from_slice(&bytes[at * size..(at + 1) * size]);
            for (place, size) in index.iter_mut().zip(shape).rev() {
                *place += 1;
                if *place < *size {
                    break;
                }
                *place = 0;
            }
        }
        Ok(ordered)
    }
}

/// Values from the first to the last that a view of at least one value touches.
fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    let steps = shape.iter().zip(strides);
    steps
        .map(|(size, stride)| (size - 1).checked_mul(*stride))
        .try_fold(1usize, |sum, reach| sum.checked_add(reach?))
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected *= size;
        fits
    })
}

fn format_error(file: &StoredFile, reason: String) -> Error {
    Error::Format {
        file: file.info.path.clone(),
        format: "torch.save",
        reason,
    }
}
