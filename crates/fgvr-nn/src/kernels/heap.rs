//! What the system's allocator does with large blocks that are freed.

/// Asks the allocator to keep large blocks for the next step instead of giving them back to the
/// system, which would hand out the same memory page by page again: thousands of page faults a step.
/// For programs to call once, at their start; [`Buffer`](crate::Buffer)s are kept either way.
///
/// Does something with glibc only; elsewhere the allocator decides.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets parameters of malloc, which takes its own lock; no pointers are involved.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        // The heaps of other threads are given back as they empty, whatever the threshold.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
