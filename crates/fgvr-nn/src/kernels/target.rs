//! A slice that the tasks of one kernel write to at places no two of them share.

use std::marker::PhantomData;

/// An exclusive borrow, handed out as pointers.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    start: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: whoever writes through a pointer of `at` promises that no other task has that place; the
// borrow that it was made from outlives it.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrow: PhantomData,
        }
    }

    /// The place `first`, from which `len` floats are in the slice: checked in debug builds.
    pub(crate) fn at(self, first: usize, len: usize) -> *mut f32 {
        debug_assert!(
            first.checked_add(len).is_some_and(|end| end <= self.len),
            "{len} floats from {first} of {}",
            self.len
        );
        self.start.wrapping_add(first)
    }
}
