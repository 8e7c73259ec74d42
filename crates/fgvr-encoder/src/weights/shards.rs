//! The index of weights cut into several files: `*.safetensors.index.json` and
//! `pytorch_model.bin.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::json::{self, Unique};
use crate::Error;

/// Which file holds which tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIndex {
    /// Tensors to file names. The names are those of files beside the index: nothing else passes
    /// [`ShardIndex::parse`].
    pub weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Raw {
    weight_map: Unique<String>,
}

impl ShardIndex {
    /// Reads the text of an index; `file` is for errors.
    ///
    /// # Errors
    /// [`Error::Json`]: no index, a tensor that stands twice, or a shard whose name could lead out
    /// of the folder.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let Raw {
            weight_map: Unique(weight_map),
        } = json::parse(file, bytes)?;
        for (tensor, shard) in &weight_map {
            if !is_plain(shard) {
                return Err(Error::Json {
                    file: file.to_path_buf(),
                    reason: format!(
                        "{tensor} is in {shard:?}, expected the name of a file beside the index"
                    ),
                });
            }
        }
        Ok(Self { weight_map })
    }

    /// The files, each once.
    #[must_use]
    pub fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// Whether `name` can only be a file in the same folder, on any system.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':', '\0'])
}
