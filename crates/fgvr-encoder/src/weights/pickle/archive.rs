//! The storages of a file, and the tensors that are views of them.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::DeflateDecoder;

use super::torch;
use crate::Error;
use crate::weights::file::StoredFile;
use crate::weights::tensor::{TensorInfo, count};

/// Bytes of the file that hold a storage or a pickle.
pub(super) struct Record {
    pub(super) start: u64,
    pub(super) compressed: u64,
    pub(super) size: u64,
    pub(super) deflated: bool,
}

/// Where a tensor's values lie: a storage, and how to walk it.
pub(crate) struct View {
    pub(crate) info: TensorInfo,
    record: String,
    /// In values, not bytes, as the strides are.
    offset: usize,
    strides: Vec<usize>,
}

/// A file of `torch.save`, opened: its records by name.
pub(crate) struct Archive {
    pub(super) records: BTreeMap<String, Record>,
}

impl Archive {
    /// The views that `tensors` are, by name; `record` names the record of a storage's key.
    pub(super) fn views(
        &self,
        file: &StoredFile,
        tensors: Vec<(String, torch::Tensor)>,
        record: impl Fn(&str) -> String,
    ) -> Result<BTreeMap<String, View>, Error> {
        let mut views = BTreeMap::new();
        for (name, tensor) in tensors {
            let view = self
                .view(record(&tensor.key), tensor)
                .map_err(|reason| format_error(file, format!("{name}: {reason}")))?;
            if views.insert(name.clone(), view).is_some() {
                return Err(format_error(file, format!("{name:?} stands twice")));
            }
        }
        if views.is_empty() {
            return Err(format_error(
                file,
                "its pickle holds no state dict; save one with torch.save(model.state_dict(), ...)"
                    .to_owned(),
            ));
        }
        Ok(views)
    }

    /// `count` bytes of `record` from `offset` on.
    pub(super) fn read(
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

    /// Checks that `tensor` stays within its storage, or the part of it that it may use.
    fn view(&self, name: String, tensor: torch::Tensor) -> Result<View, String> {
        let torch::Tensor {
            part,
            dtype,
            offset,
            shape,
            strides,
            ..
        } = tensor;
        let Some(record) = self.records.get(&name) else {
            return Err(format!("its storage {name} is not in the file"));
        };
        let whole = usize::try_from(record.size).unwrap_or(usize::MAX) / dtype.size();
        let (first, held) = part.unwrap_or((0, whole));
        if first.checked_add(held).is_none_or(|end| end > whole) {
            return Err(format!(
                "a part of {held} values from {first} on does not fit the {whole} of its storage"
            ));
        }
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
            // Within the file, or the tensor has no values and is not read.
            offset: first.saturating_add(offset),
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

pub(super) fn format_error(file: &StoredFile, reason: String) -> Error {
    Error::Format {
        file: file.info.path.clone(),
        format: "torch.save",
        reason,
    }
}
