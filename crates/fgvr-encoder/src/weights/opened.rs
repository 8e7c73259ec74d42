//! The files of a source, opened one after another: which tensor lies where.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::StoredFile;
use super::sniff::{self, Kind};
use super::{Contents, Part, ShardIndex, TensorInfo, pickle, safetensors, sidecar};
use crate::Error;

/// The largest index of shards read.
const MAX_INDEX: u64 = 64 << 20;

/// Files as they are opened one after another.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) parts: Vec<Part>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
    pub(super) places: BTreeMap<String, usize>,
    pub(super) metadata: BTreeMap<String, String>,
}

impl Opened {
    /// Adds the tensors of `file`, or those that `wanted` names.
    ///
    /// # Errors
    /// A file that is none of weights, or that lacks one of them.
    pub(super) fn add(&mut self, file: StoredFile, wanted: Option<&[&str]>) -> Result<(), Error> {
        let place = self.parts.len();
        let kind = sniff::kind(&file)?;
        let (infos, contents) = match kind {
            Kind::Zip | Kind::Legacy => {
                let (archive, views) = match kind {
                    Kind::Zip => pickle::zip::open(&file)?,
                    _ => pickle::legacy::open(&file)?,
                };
                let infos: Vec<_> = views
                    .iter()
                    .map(|(name, view)| (name.clone(), view.info.clone()))
                    .collect();
                (infos, Contents::Pickle(archive, views))
            }
            Kind::Safetensors => {
                let header = safetensors::read(&file)?;
                self.metadata.extend(header.metadata);
                let mut infos = Vec::with_capacity(header.tensors.len());
                let mut starts = BTreeMap::new();
                for (name, placed) in header.tensors {
                    starts.insert(name.clone(), placed.start);
                    infos.push((name, placed.info));
                }
                (infos, Contents::Safetensors(starts))
            }
        };
        let all: BTreeMap<String, TensorInfo> = infos.into_iter().collect();
        match wanted {
            None => {
                for (name, info) in all {
                    self.places.insert(name.clone(), place);
                    self.tensors.insert(name, info);
                }
            }
            Some(wanted) => {
                for name in wanted {
                    let Some(info) = all.get(*name) else {
                        return Err(Error::NotInShard {
                            file: file.info.path.clone(),
                            name: (*name).to_owned(),
                        });
                    };
                    self.places.insert((*name).to_owned(), place);
                    self.tensors.insert((*name).to_owned(), info.clone());
                }
            }
        }
        self.parts.push(Part { file, contents });
        Ok(())
    }

    /// Adds all shards of an index.
    ///
    /// # Errors
    /// An index or a shard that cannot be read, or a shard that lacks what the index says.
    pub(super) fn add_shards(&mut self, index: &Path) -> Result<(), Error> {
        let Some(text) = sidecar::read(index.to_path_buf(), MAX_INDEX)? else {
            return Err(Error::Io {
                file: index.to_path_buf(),
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        let shards = ShardIndex::parse(index, text.text.as_bytes())?;
        drop(text);
        let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tensor, shard) in &shards.weight_map {
            by_file.entry(shard).or_default().push(tensor);
        }
        for (shard, wanted) in by_file {
            self.add(
                StoredFile::open(&index.with_file_name(shard))?,
                Some(&wanted),
            )?;
        }
        Ok(())
    }
}
