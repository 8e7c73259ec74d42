//! A file from the Hub into the cache: nothing has the name of a blob before its hash is right.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use futures_util::StreamExt;

use super::cache::RepositoryCache;
use super::client::{Asked, Client};
use super::digest::{Hasher, Hashes, absorb, of_file};
use super::error::HubError;
use super::listing::Entry;
use super::lock::Lock;
use super::progress::Progress;
use super::reference::HubReference;

/// Where a file comes from and goes to.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client<'a>,
    pub(super) cache: &'a RepositoryCache,
    pub(super) reference: &'a HubReference,
    pub(super) commit: &'a str,
}

impl Download<'_> {
    /// The path and SHA-256 of `entry` in the commit's snapshot; fetched if it is not there yet.
    pub(super) async fn fetch(
        &self,
        entry: &Entry,
        progress: &mut dyn Progress,
    ) -> Result<(PathBuf, String), HubError> {
        let pointer = self.cache.pointer(self.commit, &entry.name);
        let blob = self.cache.blob(&entry.id);
        // Where there are no links, as with Python on Windows, the snapshot may hold the content.
        let there = match whole(&blob, entry)? {
            Some(hashes) => {
                self.cache.link(self.commit, &entry.name, &entry.id)?;
                Some(hashes)
            }
            None => whole(&pointer, entry)?,
        };
        if let Some(hashes) = there {
            progress.update(&entry.name, entry.size, entry.size);
            return Ok((pointer, hashes.sha256));
        }
        let partial = self.cache.partial(&entry.id);
        let patience = self.client.config.timeout;
        let _lock = Lock::take(&self.cache.lock(&entry.id), &partial, patience).await?;
        // Another process may have fetched it while this one waited for the lock.
        let hashes = match whole(&blob, entry)? {
            Some(hashes) => hashes,
            None => {
                let hashes = self.complete(entry, &partial, progress).await?;
                std::fs::rename(&partial, &blob).map_err(|e| HubError::io(&blob, e))?;
                hashes
            }
        };
        self.cache.link(self.commit, &entry.name, &entry.id)?;
        progress.update(&entry.name, entry.size, entry.size);
        Ok((pointer, hashes.sha256))
    }

    /// Makes the partial file whole, over as many attempts as there may be.
    async fn complete(
        &self,
        entry: &Entry,
        partial: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Hashes, HubError> {
        let io = |error| HubError::io(partial, error);
        if let Some(folder) = partial.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(partial)
            .map_err(io)?;
        let mut attempt = 1;
        loop {
            let begun = file.metadata().map_err(io)?.len();
            // More than the whole is no beginning of it.
            let begun = if begun > entry.size { 0 } else { begun };
            let error = match self
                .attempt(entry, begun, (&mut file, partial), progress)
                .await
            {
                Ok(hashes) => return Ok(hashes),
                Err(error) => error.after_attempts(attempt),
            };
            let now = file.metadata().map_err(io)?.len();
            let wrong = matches!(error, HubError::Hash { .. } | HubError::Length { .. });
            if wrong && begun > 0 {
                // What an earlier call or attempt left may be what is wrong: once more from nothing.
                file.set_len(0).map_err(io)?;
            } else if wrong {
                std::fs::remove_file(partial).map_err(io)?;
                return Err(error);
            } else if now > begun && attempt <= self.client.config.retries {
                // The connection broke in the middle: go on from there, without a long wait.
                tokio::time::sleep(self.client.config.backoff).await;
            } else {
                self.client.wait_to_retry(error, attempt).await?;
            }
            attempt += 1;
        }
    }

    /// One request for what is missing after the first `begun` bytes.
    async fn attempt(
        &self,
        entry: &Entry,
        begun: u64,
        (file, partial): (&mut File, &Path),
        progress: &mut dyn Progress,
    ) -> Result<Hashes, HubError> {
        let io = |error| HubError::io(partial, error);
        let mut hasher = Hasher::new(entry.size);
        file.set_len(begun).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        absorb(file, &mut hasher).map_err(io)?;
        let mut found = begun;
        progress.update(&entry.name, found, entry.size);
        if found < entry.size {
            let asked = Asked {
                reference: self.reference,
                file: Some(&entry.name),
            };
            let lost = |error| self.client.error(&asked, error);
            let late = |_| HubError::Timeout {
                what: format!("{}, {}", self.reference.repository, entry.name),
                within: self.client.config.timeout,
            };
            let limit = self.client.config.timeout;
            let repository = self.client.repository(&self.reference.repository);
            let request = repository
                .download_file_stream()
                .filename(&entry.name)
                .revision(self.commit)
                .maybe_range((begun > 0).then_some(begun..entry.size))
                .send();
            // hf-hub makes two requests here, for the headers and for the content.
            let (_, mut bytes) = tokio::time::timeout(limit * 2, request)
                .await
                .map_err(late)?
                .map_err(lost)?;
            while let Some(chunk) = tokio::time::timeout(limit, bytes.next())
                .await
                .map_err(late)?
            {
                let chunk = chunk.map_err(lost)?;
                found += chunk.len() as u64;
                if found > entry.size {
                    break;
                }
                file.write_all(&chunk).map_err(io)?;
                hasher.update(&chunk);
                progress.update(&entry.name, found, entry.size);
            }
        }
        if found != entry.size {
            return Err(HubError::Length {
                file: entry.name.clone(),
                expected: entry.size,
                found,
            });
        }
        let hashes = hasher.finish();
        hashes.check(&entry.name, &entry.id)?;
        file.sync_all().map_err(io)?;
        Ok(hashes)
    }
}

/// The hashes of the file at `path` if it is there and is `entry`'s content.
fn whole(path: &Path, entry: &Entry) -> Result<Option<Hashes>, HubError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() == entry.size => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HubError::io(path, error)),
    }
    let (_, hashes) = of_file(path)?;
    Ok(hashes
        .check(&entry.name, &entry.id)
        .is_ok()
        .then_some(hashes))
}
