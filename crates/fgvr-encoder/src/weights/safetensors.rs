//! The header of a safetensors file: where each tensor lies.
//!
//! The header is checked here rather than by the crate `safetensors`, which wants the whole file in
//! memory and lets the later of two tensors with one name win.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::file::StoredFile;
use super::json;
use super::tensor::{StoredType, TensorInfo, count};
use crate::Error;

/// The largest header accepted, that of the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

/// The most dimensions accepted. A list costs several times its text, so it may not be long.
const MAX_DIMS: usize = 16;

/// A tensor and the byte of the file that it begins at.
pub(crate) struct Placed {
    pub(crate) info: TensorInfo,
    pub(crate) start: u64,
}

/// What a header says.
#[derive(Default)]
pub(crate) struct Header {
    pub(crate) tensors: BTreeMap<String, Placed>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// The header as it is written.
#[derive(Default)]
struct Raw {
    tensors: BTreeMap<String, RawTensor>,
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    #[serde(deserialize_with = "dtype")]
    dtype: StoredType,
    #[serde(deserialize_with = "shape")]
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut raw = Raw::default();
                while let Some(name) = map.next_key::<String>()? {
                    let twice = if name == "__metadata__" {
                        raw.metadata.replace(map.next_value()?).is_some()
                    } else if raw.tensors.contains_key(&name) {
                        true
                    } else {
                        raw.tensors.insert(name.clone(), map.next_value()?);
                        false
                    };
                    if twice {
                        return Err(A::Error::custom(format!("{name:?} stands twice")));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

fn dtype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StoredType, D::Error> {
    let name = String::deserialize(deserializer)?;
    stored_type(&name).ok_or_else(|| D::Error::custom(format!("unknown type {name:?}")))
}

fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    struct Dims;
    impl<'de> Visitor<'de> for Dims {
        type Value = Vec<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_DIMS} sizes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<usize>, A::Error> {
            let mut dims = Vec::new();
            while let Some(size) = list.next_element()? {
                if dims.len() == MAX_DIMS {
                    return Err(A::Error::invalid_length(MAX_DIMS + 1, &self));
                }
                dims.push(size);
            }
            Ok(dims)
        }
    }
    deserializer.deserialize_seq(Dims)
}

/// Reads the header of `file` and checks that the tensors fill the rest of it without gap or
/// overlap.
pub(crate) fn read(file: &StoredFile) -> Result<Header, Error> {
    let format = |reason: String| Error::Format {
        file: file.info.path.clone(),
        format: "safetensors",
        reason,
    };
    let length = |expected| Error::Length {
        file: file.info.path.clone(),
        expected,
        found: file.info.bytes,
    };
    if file.info.bytes < 8 {
        return Err(length(8));
    }
    let mut word = [0; 8];
    word.copy_from_slice(&file.read_at(0, 8)?);
    let header_length = u64::from_le_bytes(word);
    if header_length > MAX_HEADER {
        return Err(format(format!(
            "its header would be {header_length} bytes, more than the {MAX_HEADER} allowed"
        )));
    }
    let data = header_length + 8;
    if data > file.info.bytes {
        return Err(length(data));
    }
    let bytes = file.read_at(8, header_length)?;
    let raw: Raw = json::parse(&file.info.path, &bytes).map_err(|error| match error {
        Error::Json { reason, .. } => format(reason),
        other => other,
    })?;
    drop(bytes);

    let mut header = Header {
        tensors: BTreeMap::new(),
        metadata: raw.metadata.unwrap_or_default(),
    };
    let mut ranges = Vec::with_capacity(raw.tensors.len());
    for (name, raw) in raw.tensors {
        let RawTensor {
            dtype,
            shape,
            data_offsets: [start, end],
        } = raw;
        let size = count(&shape).and_then(|count| count.checked_mul(dtype.size()));
        if size.is_none() || end.checked_sub(start) != size.map(|size| size as u64) {
            return Err(format(format!(
                "{name}: {dtype} of shape {shape:?} does not take the bytes {start}..{end}"
            )));
        }
        ranges.push((start, end));
        let info = TensorInfo { shape, dtype };
        let start = data.saturating_add(start);
        header.tensors.insert(name, Placed { info, start });
    }
    ranges.sort_unstable();
    let mut at = 0;
    for (start, end) in ranges {
        if start != at {
            return Err(format(format!(
                "a tensor begins at byte {start}, expected {at}: tensors overlap or leave a gap"
            )));
        }
        at = end;
    }
    match data.checked_add(at) {
        Some(end) if end == file.info.bytes => Ok(header),
        end => Err(length(end.unwrap_or(u64::MAX))),
    }
}

/// The type that safetensors calls `name`.
fn stored_type(name: &str) -> Option<StoredType> {
    Some(match name {
        "F64" => StoredType::F64,
        "F32" => StoredType::F32,
        "F16" => StoredType::F16,
        "BF16" => StoredType::BF16,
        "BOOL" => StoredType::Other("BOOL", 1),
        "U8" => StoredType::Other("U8", 1),
        "I8" => StoredType::Other("I8", 1),
        "F8_E4M3" => StoredType::Other("F8_E4M3", 1),
        "F8_E5M2" => StoredType::Other("F8_E5M2", 1),
        "F8_E8M0" => StoredType::Other("F8_E8M0", 1),
        "U16" => StoredType::Other("U16", 2),
        "I16" => StoredType::Other("I16", 2),
        "U32" => StoredType::Other("U32", 4),
        "I32" => StoredType::Other("I32", 4),
        "U64" => StoredType::Other("U64", 8),
        "I64" => StoredType::Other("I64", 8),
        "C64" => StoredType::Other("C64", 8),
        _ => return None,
    })
}
