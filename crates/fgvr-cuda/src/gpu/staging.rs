//! Copies to the GPU beside what it computes: page-locked memory, and a stream of their own.
//!
//! Pageable memory would not do: from there the driver copies to a buffer of its own first, and the call returns
//! when it has. From page-locked memory `cuMemcpyHtoDAsync` returns at once, and the GPU fetches the bytes
//! itself while kernels of another stream run. What keeps the two streams apart:
//!
//! - **Allocated on the copying stream**, so that a copy waits for nothing that computes. `cuMemAllocAsync`
//!   gives out memory that was freed on another stream only where this stream is known to come after the free
//!   (an event), where the free has been passed, or, before it fails for want of memory, with a wait that it
//!   puts into this stream itself (the pool's attributes `CU_MEMPOOL_ATTR_REUSE_*`, all on by default). So a
//!   copy never overwrites what a kernel still reads.
//! - **An event behind the copy**, for which the computing stream waits when the memory is received
//!   (`cuStreamWaitEvent`): the host does not wait, and whatever is launched later finds all bytes there.
//! - **Freed on the computing stream** once received. Memory may be freed on another stream than its own if the
//!   free comes after the allocation and every use: the allocation comes before the event, and every use is on
//!   the computing stream. What is never received is freed on the copying stream, behind its copy.
//! - **A buffer is filled again** when the event behind the copy out of it has passed.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result, sys};

use super::{Allocation, driver, lock};
use crate::{Error, Result, staged};

/// Page-locked buffers that are kept: one is filled while the GPU empties the other.
const BUFFERS: usize = 2;

/// The copying stream and its buffers.
pub(super) struct Staging {
    stream: Arc<CudaStream>,
    /// The one that was filled first comes first. Those in the making are not among them.
    buffers: Mutex<VecDeque<Pinned>>,
}

/// What a [`Staged`](crate::Staged) of a GPU holds.
pub(super) struct OnItsWay {
    pub(super) allocation: Allocation,
    pub(super) arrived: Arc<CudaEvent>,
}

impl Staging {
    pub(super) fn new(context: &Arc<CudaContext>) -> std::result::Result<Self, DriverError> {
        // It does not synchronise with the null stream either (CU_STREAM_NON_BLOCKING).
        Ok(Self {
            stream: context.new_stream()?,
            buffers: Mutex::default(),
        })
    }

    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Starts a copy of `from` to `to`; the event passes when it is done. The context is bound to this thread.
    pub(super) fn copy(&self, from: &[u8], to: sys::CUdeviceptr) -> Result<Arc<CudaEvent>> {
        // Taken out of the ring while it is filled, so that no lock is held while other threads help.
        let mut buffer = self.buffer(from.len())?;
        let filled = buffer.fill(from);
        // SAFETY: `to` has as many bytes. The buffer is neither written nor freed before this copy is done:
        // `Pinned` waits for the event that follows, and where it is dropped, for the stream.
        unsafe { result::memcpy_htod_async(to, filled, self.stream.cu_stream()) }
            .map_err(driver("upload from page-locked memory"))?;
        // Without times, which makes waiting for it cheap.
        let event = self.stream.record_event(None);
        let event = Arc::new(event.map_err(driver("record an event"))?);
        buffer.emptied = Some(Arc::clone(&event));
        let mut buffers = lock(&self.buffers);
        buffers.push_back(buffer);
        // More than are kept, where several threads stage at a time.
        let spare = match buffers.len() > BUFFERS {
            true => buffers.pop_front(),
            false => None,
        };
        drop(buffers);
        drop(spare);
        Ok(event)
    }

    /// A buffer of at least so many bytes that nothing reads any more.
    fn buffer(&self, bytes: usize) -> Result<Pinned> {
        let oldest = {
            let mut buffers = lock(&self.buffers);
            match buffers.len() < BUFFERS {
                true => None,
                false => buffers.pop_front(),
            }
        };
        if let Some(oldest) = oldest.filter(|buffer| buffer.bytes >= bytes) {
            oldest.wait()?;
            return Ok(oldest);
        }
        // One that is too small has gone back by now, so that both are never held.
        Pinned::new(&self.stream, bytes)
    }
}

/// Page-locked memory of the host.
struct Pinned {
    start: NonNull<u8>,
    bytes: usize,
    stream: Arc<CudaStream>,
    /// Passes when the GPU has read it.
    emptied: Option<Arc<CudaEvent>>,
}

// SAFETY: memory that one thread at a time holds; the driver's page-locked memory is for all threads.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(stream: &Arc<CudaStream>, bytes: usize) -> Result<Self> {
        let refused = |why: String| Error::Driver {
            what: format!("page-lock {bytes} bytes of the host's memory for a batch"),
            why: format!(
                "{why}; lower loader.batch, or free memory: {BUFFERS} such buffers must stay in it, beyond what may be swapped out"
            ),
        };
        // SAFETY: the memory is initialised below and freed in `drop`. Memory that the host reads and writes
        // as any other (no flags), since parts of a cache line may be written by different threads.
        let start = unsafe { result::malloc_host(bytes.max(1), 0) };
        let start = start.map_err(|error| refused(format!("{error:?}")))?;
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| refused("the driver gave none".to_owned()))?;
        // SAFETY: so many bytes were just allocated.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Ok(Self {
            start,
            bytes,
            stream: Arc::clone(stream),
            emptied: None,
        })
    }

    /// Until the GPU has read it.
    fn wait(&self) -> Result<()> {
        match &self.emptied {
            Some(event) => event.synchronize().map_err(driver("wait for a copy")),
            None => Ok(()),
        }
    }

    /// The buffer's start, holding `from`, which is no longer than it.
    fn fill(&mut self, from: &[u8]) -> &[u8] {
        // SAFETY: `bytes` initialised bytes, borrowed as this is. The GPU does not read them now: the buffer is
        // new, or `wait` has ended.
        let to = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) };
        let to = &mut to[..from.len()];
        staged::copy(from, to);
        to
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // An error here has nobody to go to; the next call on the stream returns it again. The wait is for
        // copies that no event stands behind, where recording one failed.
        if self.stream.context().bind_to_thread().is_ok() && self.stream.synchronize().is_ok() {
            // SAFETY: allocated in `new`, freed once, and no copy reads it.
            let _ = unsafe { result::free_host(self.start.as_ptr().cast()) };
        }
    }
}
