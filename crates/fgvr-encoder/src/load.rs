//! Variables from a safetensors file, with a report of what fitted.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use fgvr_nn::Parameters;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::Value;

use crate::Error;

/// What [`load`] did, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// The file.
    pub file: PathBuf,
    /// Variables that were set.
    pub loaded: Vec<String>,
    /// Variables that the file lacks; they keep their values.
    pub missing: Vec<String>,
    /// Tensors of the file that no variable has the name of.
    pub unexpected: Vec<String>,
    /// Tensors of the file that a trunk never uses: the classifier (`fc.*`) and batch norm's
    /// `num_batches_tracked`.
    pub ignored: Vec<String>,
    /// The file's own notes.
    pub metadata: BTreeMap<String, String>,
}

impl LoadReport {
    /// This report, if the file had every variable and nothing that is not one.
    ///
    /// # Errors
    /// [`Error::Incomplete`].
    pub fn strict(self) -> Result<Self, Error> {
        if self.missing.is_empty() && self.unexpected.is_empty() {
            return Ok(self);
        }
        Err(Error::Incomplete {
            file: self.file,
            missing: self.missing,
            unexpected: self.unexpected,
        })
    }
}

/// Sets the variables of `parameters` from the tensors of the same names in a safetensors file, as
/// torchvision and timm name them. f32, f16, bf16 and f64 tensors are accepted.
///
/// Nothing is set unless every tensor that has a variable's name fits it. Names on one side only
/// are reported, not an error: see [`LoadReport::strict`].
///
/// # Errors
/// [`Error::Io`], [`Error::Length`] (a truncated file), [`Error::Format`], [`Error::Shape`],
/// [`Error::DataType`], [`Error::NotFinite`], [`Error::NothingLoaded`].
pub fn load(parameters: &Parameters, path: impl AsRef<Path>) -> Result<LoadReport, Error> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|source| Error::Io {
        file: path.into(),
        source,
    })?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| format_error(path, &bytes, &error))?;
    let tensors =
        SafeTensors::deserialize(&bytes).map_err(|error| format_error(path, &bytes, &error))?;

    let vars = parameters.all();
    let mut report = LoadReport {
        file: path.into(),
        metadata: header.metadata().clone().into_iter().flatten().collect(),
        ..LoadReport::default()
    };
    let mut values: HashMap<String, Tensor> = HashMap::new();
    for (name, view) in tensors.iter() {
        let Some(var) = vars.get(name) else {
            let list = if is_ignored(name) {
                &mut report.ignored
            } else {
                &mut report.unexpected
            };
            list.push(name.to_owned());
            continue;
        };
        if view.shape() != var.dims() {
            return Err(Error::Shape {
                file: path.into(),
                name: name.to_owned(),
                expected: var.dims().to_vec(),
                found: view.shape().to_vec(),
            });
        }
        let tensor = tensor_of(path, name, &view)?;
        values.insert(name.to_owned(), tensor);
        report.loaded.push(name.to_owned());
    }
    for list in [
        &mut report.loaded,
        &mut report.unexpected,
        &mut report.ignored,
    ] {
        list.sort();
    }
    report.missing = vars
        .keys()
        .filter(|name| !values.contains_key(*name))
        .cloned()
        .collect();
    if values.is_empty() {
        return Err(Error::NothingLoaded {
            file: path.into(),
            found: tensors.len(),
            expected: vars.keys().next().cloned().unwrap_or_default(),
            example: tensors
                .names()
                .into_iter()
                .min()
                .unwrap_or_default()
                .to_owned(),
        });
    }
    for (name, value) in values {
        let set = value
            .to_dtype(vars[&name].dtype())
            .and_then(|value| vars[&name].set(&value));
        set.map_err(|source| Error::Tensor { name, source })?;
    }
    Ok(report)
}

fn is_ignored(name: &str) -> bool {
    name.starts_with("fc.") || name.ends_with(".num_batches_tracked")
}

/// The values of `view` as an f32 tensor.
fn tensor_of(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Tensor, Error> {
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F64 => DType::F64,
        other => {
            return Err(Error::DataType {
                file: path.into(),
                name: name.to_owned(),
                expected: "f32, f16, bf16 or f64",
                found: other.to_string(),
            });
        }
    };
    let read = || {
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
        let tensor = tensor.to_dtype(DType::F32)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        Ok((tensor, values.iter().all(|value| value.is_finite())))
    };
    match read() {
        Ok((tensor, true)) => Ok(tensor),
        Ok((_, false)) => Err(Error::NotFinite {
            file: path.into(),
            name: name.to_owned(),
        }),
        Err(source) => Err(Error::Tensor {
            name: name.to_owned(),
            source,
        }),
    }
}

/// Tells a file cut short, the commonest damage, from one of another format.
fn format_error(path: &Path, bytes: &[u8], error: &SafeTensorError) -> Error {
    let found = bytes.len() as u64;
    let length = |expected| Error::Length {
        file: path.into(),
        expected,
        found,
    };
    match (error, expected_length(bytes)) {
        (SafeTensorError::HeaderTooSmall, _) => length(8),
        (
            SafeTensorError::InvalidHeaderLength | SafeTensorError::MetadataIncompleteBuffer,
            Some(expected),
        ) => length(expected),
        _ => Error::Format {
            file: path.into(),
            reason: error.to_string(),
        },
    }
}

/// The length that the header asks for, as far as there is a header.
fn expected_length(bytes: &[u8]) -> Option<u64> {
    let header_length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let data_start = header_length.checked_add(8)?;
    let Some(header) = bytes.get(8..usize::try_from(data_start).ok()?) else {
        return Some(data_start);
    };
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).ok()?;
    let end = header
        .values()
        .filter_map(|info| info.get("data_offsets")?.get(1)?.as_u64())
        .max()
        .unwrap_or(0);
    data_start.checked_add(end)
}
