//! A file that is quiet once it failed.

use std::io::{ErrorKind, Result, Seek, SeekFrom, Write};

/// Passes on what is written until that fails, and then takes all without a word: the one who was told of the failure
/// knows, and an archive that is dropped after it would try to finish, and say on standard error that it cannot.
pub(crate) struct UntilFailure<F> {
    file: F,
    /// Bytes from the start to where the next are written, or would be.
    at: u64,
    failed: bool,
}

impl<F: Write + Seek> UntilFailure<F> {
    /// For a file at its start.
    pub(crate) fn new(file: F) -> Self {
        Self {
            file,
            at: 0,
            failed: false,
        }
    }

    fn noted<T>(&mut self, done: Result<T>) -> Result<T> {
        let failure = |error: &std::io::Error| error.kind() != ErrorKind::Interrupted;
        self.failed |= done.as_ref().is_err_and(failure);
        done
    }
}

impl<F: Write + Seek> Write for UntilFailure<F> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let done = match self.failed {
            true => Ok(bytes.len()),
            false => self.file.write(bytes),
        };
        self.at += *done.as_ref().unwrap_or(&0) as u64;
        self.noted(done)
    }

    fn flush(&mut self) -> Result<()> {
        let done = match self.failed {
            true => Ok(()),
            false => self.file.flush(),
        };
        self.noted(done)
    }
}

impl<F: Write + Seek> Seek for UntilFailure<F> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let done = match (self.failed, to) {
            (false, _) => self.file.seek(to),
            (true, SeekFrom::Start(at)) => Ok(at),
            (true, SeekFrom::Current(by) | SeekFrom::End(by)) => {
                Ok(self.at.saturating_add_signed(by))
            }
        };
        self.at = *done.as_ref().unwrap_or(&self.at);
        self.noted(done)
    }
}
