//! The cache of Python's `huggingface_hub`: `models--owner--name/{blobs, refs, snapshots/<commit>}`.
//!
//! A blob is a content under the hash that the Hub states; a snapshot's files are links to blobs, so
//! that commits share them; a ref holds the commit of a branch or tag. Every part of a path here has
//! been checked before: repository and revision by the reference, file names by [`super::name`],
//! hashes and commits by being hex.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::digest::{Hashes, ObjectId, of_file};
use super::error::HubError;
use super::listing::is_commit;
use super::reference::HubReference;

/// The part of the cache that belongs to one repository.
pub(super) struct RepositoryCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepositoryCache {
    pub(super) fn new(cache: &Path, reference: &HubReference) -> Self {
        let name = format!("models--{}", reference.repository.replace('/', "--"));
        Self {
            folder: cache.join(&name),
            locks: cache.join(".locks").join(&name),
        }
    }

    pub(super) fn blob(&self, id: &ObjectId) -> PathBuf {
        self.folder.join("blobs").join(id.as_str())
    }

    /// Where a blob grows. Python's own unfinished files have other names, so neither continues what
    /// the other began.
    pub(super) fn partial(&self, id: &ObjectId) -> PathBuf {
        let name = format!("{}.fgvr.incomplete", id.as_str());
        self.folder.join("blobs").join(name)
    }

    /// The lock that Python takes too while it fetches the blob.
    pub(super) fn lock(&self, id: &ObjectId) -> PathBuf {
        self.locks.join(format!("{}.lock", id.as_str()))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(super) fn pointer(&self, commit: &str, name: &str) -> PathBuf {
        let mut path = self.snapshot(commit);
        path.extend(name.split('/'));
        path
    }

    /// The commit that `revision` stood for when it was last fetched.
    pub(super) fn read_ref(&self, revision: &str) -> Result<Option<String>, HubError> {
        if is_commit(revision) {
            return Ok(Some(revision.to_owned()));
        }
        let path = self.ref_path(revision);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HubError::io(&path, error)),
        };
        let commit = text.trim();
        if !is_commit(commit) {
            return Err(HubError::Cache {
                path,
                reason: "expected a commit's 40 hex digits in it".to_owned(),
            });
        }
        Ok(Some(commit.to_owned()))
    }

    /// Notes that `revision` stands for `commit`.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) || matches!(self.read_ref(revision), Ok(Some(old)) if old == commit)
        {
            return Ok(());
        }
        let path = self.ref_path(revision);
        replace(&path, |temporary| {
            std::fs::File::create_new(temporary)?.write_all(commit.as_bytes())
        })
    }

    fn ref_path(&self, revision: &str) -> PathBuf {
        let mut path = self.folder.join("refs");
        path.extend(revision.split('/'));
        path
    }

    /// Makes `name` of `commit` point to the blob, which is whole.
    pub(super) fn link(&self, commit: &str, name: &str, id: &ObjectId) -> Result<(), HubError> {
        let pointer = self.pointer(commit, name);
        let mut target = PathBuf::new();
        // From snapshots/<commit>/<folders of the name> up to the repository's folder.
        for _ in 0..name.split('/').count() + 1 {
            target.push("..");
        }
        target.push("blobs");
        target.push(id.as_str());
        if std::fs::read_link(&pointer).is_ok_and(|old| old == target) {
            return Ok(());
        }
        let blob = self.blob(id);
        replace(&pointer, |temporary| link(&target, &blob, temporary))
    }

    /// The names of the files of `commit` that are there and whole as far as names tell; empty if
    /// there is no such snapshot.
    pub(super) fn names(&self, commit: &str) -> Result<BTreeSet<String>, HubError> {
        let mut names = BTreeSet::new();
        let mut folders = vec![(self.snapshot(commit), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            let io = |error| HubError::io(&folder, error);
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io(error)),
            };
            for entry in entries {
                let entry = entry.map_err(io)?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue; // No name that a listing could have given.
                };
                let name = format!("{prefix}{name}");
                if entry.file_type().map_err(io)?.is_dir() {
                    folders.push((entry.path(), format!("{name}/")));
                } else if entry.path().is_file() {
                    // A link whose blob is gone is no file.
                    names.insert(name);
                }
            }
        }
        Ok(names)
    }

    /// The hashes of a cached file, checked against the name of the blob that it points to.
    pub(super) fn verified(&self, commit: &str, name: &str) -> Result<(PathBuf, Hashes), HubError> {
        let pointer = self.pointer(commit, name);
        let (_, hashes) = of_file(&pointer)?;
        let target = std::fs::read_link(&pointer).ok();
        let id = target
            .as_ref()
            .and_then(|target| target.file_name()?.to_str())
            .and_then(ObjectId::parse);
        if let Some(id) = id
            && hashes.check(name, &id).is_err()
        {
            return Err(HubError::Cache {
                path: self.blob(&id),
                reason: "the content is not the one that the file's name is the hash of".to_owned(),
            });
        }
        Ok((pointer, hashes))
    }
}

/// Tells the temporary files of one process apart.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Puts a file at `path` in one step: `make` makes it beside, under a name of its own.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), HubError> {
    let io = |error| HubError::io(path, error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let temporary = path.with_file_name(format!(".{name}.{process}.{number}.tmp"));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let made = make(&temporary).and_then(|()| std::fs::rename(&temporary, path));
    if made.is_err() {
        // The error is the one of the first failure; a leftover has a name that nothing reads.
        let _ = std::fs::remove_file(&temporary);
    }
    made.map_err(io)
}

#[cfg(unix)]
fn link(target: &Path, _blob: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links need a right on Windows that not everyone has; then a copy serves, as in Python.
#[cfg(windows)]
fn link(target: &Path, blob: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
        .or_else(|_| std::fs::copy(blob, link).map(|_| ()))
}
