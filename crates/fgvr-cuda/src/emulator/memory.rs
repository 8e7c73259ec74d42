//! Memory between two guards, so that a write outside is seen.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::{Error, Result};

/// Bytes before and after a block that nothing may write to.
const GUARD: usize = 256;
/// What memory holds before something is written: NaN in every float type.
const POISON: u8 = 0xff;

/// Poisoned memory, aligned as a GPU's allocations are.
pub(super) struct Block {
    start: NonNull<u8>,
    layout: Layout,
    bytes: usize,
}

// SAFETY: plain memory that only copies and launches touch, one at a time.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    pub(super) fn new(bytes: usize) -> Result<Self> {
        let size = bytes.checked_add(2 * GUARD);
        let layout = size.and_then(|size| Layout::from_size_align(size, GUARD).ok());
        let Some(layout) = layout else {
            return Err(Error::Emulator(format!(
                "{bytes} bytes are more than memory"
            )));
        };
        // SAFETY: the size is at least twice the guard.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout);
        };
        // SAFETY: `layout.size()` bytes were just allocated.
        unsafe { start.as_ptr().write_bytes(POISON, layout.size()) };
        Ok(Self {
            start,
            layout,
            bytes,
        })
    }

    pub(super) fn address(&self) -> usize {
        self.start.as_ptr() as usize + GUARD
    }

    /// What was overwritten beside the block, if anything was.
    pub(super) fn overrun(&self) -> Option<String> {
        // SAFETY: inside the allocation, initialised, and nothing writes to a guard now; another thread may be
        // copying to the block between them.
        let guard = |from: usize| unsafe {
            std::slice::from_raw_parts(self.start.as_ptr().add(from), GUARD)
        };
        let before = guard(0).iter().rposition(|byte| *byte != POISON);
        if let Some(at) = before {
            return Some(format!(
                "a write {} bytes before an array of {}",
                GUARD - at,
                self.bytes
            ));
        }
        let after = guard(GUARD + self.bytes)
            .iter()
            .position(|byte| *byte != POISON);
        after.map(|at| format!("a write {at} bytes beyond an array of {}", self.bytes))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
