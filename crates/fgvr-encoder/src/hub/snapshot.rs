//! The weights of a repository and what belongs to them, in the cache.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::cache::RepositoryCache;
use super::client::{Client, block_on};
use super::config::HubConfig;
use super::download::Download;
use super::error::HubError;
use super::listing;
use super::progress::Progress;
use super::reference::HubReference;
use super::selection::Selection;

/// An index of shards longer than this is refused: it holds a line per tensor.
const LONGEST_INDEX: u64 = 64 << 20;

/// The files of one commit, whole and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The named file where the reference names one; else the commit's folder.
    pub path: PathBuf,
    /// The file of weights, or the index of its shards.
    pub weights: PathBuf,
    /// The commit, 40 hex digits.
    pub revision: String,
    /// The files that were asked for: the weights, their index and shards, and the configuration.
    /// The folder may hold others, from earlier calls or other programs.
    pub files: Vec<SnapshotFile>,
}

/// A file of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name in the repository.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The SHA-256 of its content, 64 hex digits, computed in this call.
    pub sha256: String,
}

/// [`snapshot_with`] with what the environment says.
///
/// # Errors
///
/// See [`HubConfig::from_env`] and [`snapshot_with`].
pub fn snapshot(
    reference: &HubReference,
    progress: &mut dyn Progress,
) -> Result<Snapshot, HubError> {
    snapshot_with(&HubConfig::from_env()?, reference, progress)
}

/// Fetches the weights that `reference` names, with `config.json`, `preprocessor_config.json`
/// and `adaptation.safetensors` where they exist, as far as the cache does not hold them.
///
/// Without a file in the reference the weights are `model.safetensors`, else
/// `model.safetensors.index.json` with its shards, else `pytorch_model.bin` or its index with its
/// shards, else the only file that ends in `.safetensors`, `.pth` or `.pth.tar`.
///
/// Offline, the cache stands for the repository: the same choice is made among the files that it
/// holds of the commit that the revision stood for last.
///
/// # Errors
///
/// Fails if the reference is invalid, the Hub or the revision or a file is not there or may not be
/// read, the weights cannot be told from the list of files, the network fails for longer than
/// `config` allows, or a content is not what the Hub states. What is in the cache then is whole, or
/// has a name that ends in `.incomplete` and is continued or begun again by the next call.
pub fn snapshot_with(
    config: &HubConfig,
    reference: &HubReference,
    progress: &mut dyn Progress,
) -> Result<Snapshot, HubError> {
    reference.validate()?;
    let cache = RepositoryCache::new(&config.cache, reference);
    if config.offline {
        return offline(config, reference, &cache, progress);
    }
    block_on(online(config, reference, &cache, progress))
}

async fn online(
    config: &HubConfig,
    reference: &HubReference,
    cache: &RepositoryCache,
    progress: &mut dyn Progress,
) -> Result<Snapshot, HubError> {
    let client = Client::new(config, config.timeout)?;
    let commit = listing::resolve(&client, reference).await?;
    let listing = listing::files(&client, reference, &commit).await?;
    let names: BTreeSet<String> = listing.keys().cloned().collect();
    let selection = Selection::of(reference, &names)?;
    let download = Download {
        client: &client,
        cache,
        reference,
        commit: &commit,
    };
    let mut files = Vec::new();
    let mut wanted = vec![selection.weights.clone()];
    wanted.extend(selection.companions.iter().cloned());
    let mut next = 0;
    while let Some(name) = wanted.get(next).cloned() {
        let entry = listing.get(&name).ok_or_else(|| HubError::FileNotFound {
            repository: reference.repository.clone(),
            revision: commit.clone(),
            file: name.clone(),
            found: Vec::new(),
        })?;
        let (path, sha256) = download.fetch(entry, progress).await?;
        if next == 0 && selection.is_index() {
            wanted.extend(selection.shards(&index(&path)?, &names)?);
        }
        files.push(SnapshotFile { name, path, sha256 });
        next += 1;
    }
    // Last, so that a ref never stands for a commit of which something is missing.
    cache.write_ref(reference.revision_or_main(), &commit)?;
    Ok(found(cache, reference, commit, &selection, files))
}

fn offline(
    config: &HubConfig,
    reference: &HubReference,
    cache: &RepositoryCache,
    progress: &mut dyn Progress,
) -> Result<Snapshot, HubError> {
    let revision = reference.revision_or_main();
    let lacks = |missing: String| HubError::Offline {
        repository: reference.repository.clone(),
        revision: revision.to_owned(),
        cache: config.cache.clone(),
        missing,
    };
    let commit = cache
        .read_ref(revision)?
        .ok_or_else(|| lacks("the revision".to_owned()))?;
    let names = cache.names(&commit)?;
    if names.is_empty() {
        return Err(lacks(format!("any file of commit {commit}")));
    }
    let selection = Selection::of(reference, &names).map_err(|error| match error {
        HubError::FileNotFound { file, .. } => lacks(file),
        HubError::NoWeights { found, .. } => {
            lacks(format!("a file of weights (it has {})", found.join(", ")))
        }
        other => other,
    })?;
    let mut wanted = vec![selection.weights.clone()];
    wanted.extend(selection.companions.iter().cloned());
    if selection.is_index() {
        let index = index(&cache.pointer(&commit, &selection.weights))?;
        wanted.extend(
            selection
                .shards(&index, &names)
                .map_err(|error| match error {
                    HubError::Index { file, reason } => {
                        lacks(format!("a whole model: {file}: {reason}"))
                    }
                    other => other,
                })?,
        );
    }
    let mut files = Vec::new();
    for name in wanted {
        let (path, hashes) = cache.verified(&commit, &name)?;
        let size = std::fs::metadata(&path)
            .map_err(|error| HubError::io(&path, error))?
            .len();
        progress.update(&name, size, size);
        files.push(SnapshotFile {
            name,
            path,
            sha256: hashes.sha256,
        });
    }
    Ok(found(cache, reference, commit, &selection, files))
}

fn found(
    cache: &RepositoryCache,
    reference: &HubReference,
    commit: String,
    selection: &Selection,
    files: Vec<SnapshotFile>,
) -> Snapshot {
    let weights = cache.pointer(&commit, &selection.weights);
    let path = match reference.file {
        Some(_) => weights.clone(),
        None => cache.snapshot(&commit),
    };
    Snapshot {
        path,
        weights,
        revision: commit,
        files,
    }
}

/// The text of an index.
fn index(path: &std::path::Path) -> Result<Vec<u8>, HubError> {
    let io = |error| HubError::io(path, error);
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > LONGEST_INDEX {
        return Err(HubError::Index {
            file: path.display().to_string(),
            reason: format!("{length} bytes, expected at most {LONGEST_INDEX}"),
        });
    }
    std::fs::read(path).map_err(io)
}
