//! One process at a time fetches a blob.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::HubError;

/// Held while a blob is fetched; freed when dropped, or when the process ends however it ends.
pub(super) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Waits for the lock at `path` for as long as the file at `growing` grows, and for `patience`
    /// beyond.
    pub(super) async fn take(
        path: &Path,
        growing: &Path,
        patience: Duration,
    ) -> Result<Self, HubError> {
        let io = |error| HubError::io(path, error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(io)?;
        let length = || std::fs::metadata(growing).map_or(0, |metadata| metadata.len());
        let mut seen = (length(), Instant::now());
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: Some(file) }),
                // Some network file systems have no locks. Two writers of one partial file damage
                // it at worst, which its hash shows.
                Err(TryLockError::Error(error))
                    if error.kind() == std::io::ErrorKind::Unsupported =>
                {
                    return Ok(Self { _file: None });
                }
                Err(TryLockError::Error(error)) => return Err(io(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let now = length();
            if now != seen.0 {
                seen = (now, Instant::now());
            }
            let waited = seen.1.elapsed();
            if waited > patience {
                return Err(HubError::Locked {
                    path: path.to_owned(),
                    waited,
                });
            }
            tokio::time::sleep(Duration::from_millis(50).min(patience)).await;
        }
    }
}
