//! Aligned f32 storage that goes back to a pool when dropped, so that a steady training step
//! allocates nothing.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, PoisonError};

/// What memory is asked for in: one cache line, and one AVX-512 register, of floats.
#[cfg(not(feature = "exact-buffers"))]
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

#[cfg(not(feature = "exact-buffers"))]
const LINE: usize = 16;

/// Single floats, so that a sanitizer sees an access beyond the last one.
#[cfg(feature = "exact-buffers")]
#[derive(Clone, Copy)]
#[repr(C)]
struct Line([f32; LINE]);

#[cfg(feature = "exact-buffers")]
const LINE: usize = 1;

type Pool = Mutex<HashMap<usize, Vec<Vec<Line>>>>;

static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

/// `len` floats, 64-byte aligned.
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// A buffer whose contents are whatever the pool last held: every element must be written.
    #[must_use]
    pub fn scratch(len: usize) -> Self {
        let lines = len.div_ceil(LINE);
        let pooled = POOL
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(&lines)
            .and_then(Vec::pop);
        let lines = pooled.unwrap_or_else(|| vec![Line([0.; LINE]); lines]);
        Self { lines, len }
    }

    /// A buffer of zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::scratch(len);
        buffer.fill(0.);
        buffer
    }

    /// A copy of `values`.
    #[must_use]
    pub fn from_slice(values: &[f32]) -> Self {
        let mut buffer = Self::scratch(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Gives the pool's memory back to the system.
    pub fn trim_pool() {
        POOL.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is `repr(C)` over [f32; LINE] without padding (64 bytes, aligned to 64, or a
        // single float), and `len <= lines.len() * LINE` by construction.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`; the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // Memory that is used again is never out of bounds.
        if !lines.is_empty() && !cfg!(feature = "exact-buffers") {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            pool.entry(lines.len()).or_default().push(lines);
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} floats)", self.len)
    }
}

#[cfg(all(test, not(feature = "exact-buffers")))]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_comes_back() {
        let len = 12_345;
        let first = Buffer::zeros(len);
        let address = first.as_ptr();
        assert_eq!(address as usize % 64, 0);
        drop(first);
        // Nothing else in this crate's tests uses this length.
        assert_eq!(Buffer::scratch(len).as_ptr(), address);
    }
}
