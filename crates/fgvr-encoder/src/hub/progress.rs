//! How far a transfer is.

/// Told how far a transfer is, file by file; a program shows a bar from it.
///
/// A closure `|file: &str, done: u64, total: u64|` is one; [`Silent`] ignores what it is told.
pub trait Progress: Send {
    /// `done` of the `total` bytes of `file` have come or gone. Called with `done` of 0 or what was
    /// there already when a file begins, and with `done` equal to `total` when it is whole.
    fn update(&mut self, file: &str, done: u64, total: u64);
}

impl<F: FnMut(&str, u64, u64) + Send> Progress for F {
    fn update(&mut self, file: &str, done: u64, total: u64) {
        self(file, done, total);
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn update(&mut self, _file: &str, _done: u64, _total: u64) {}
}
