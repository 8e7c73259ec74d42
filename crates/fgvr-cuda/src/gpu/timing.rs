//! How long work takes on the GPU, and what a measurement needs beside.

use std::time::Duration;

use cudarc::driver::{result, sys};

use super::{Gpu, driver};
use crate::{Memory, Result};

impl Gpu {
    /// How long the GPU takes for what `work` starts, by its own clock, from the moment when all before is done;
    /// waits for it. While the GPU waits for the host to start more, that counts.
    ///
    /// # Errors
    /// Those of `work`, and what the driver says.
    pub fn time(&self, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let record = || {
            let event = self.stream.record_event(flags);
            event.map_err(driver("record an event"))
        };
        let begin = record()?;
        work()?;
        let end = record()?;
        let took = begin.elapsed_ms(&end).map_err(driver("time"))?;
        Ok(Duration::from_secs_f64(f64::from(took.max(0.)) / 1e3))
    }

    /// Copies the start of `from` to the start of `to`, both on this GPU, as many bytes as the shorter has.
    ///
    /// # Errors
    /// What the driver says.
    pub fn copy(&self, from: &Memory, to: &Memory) -> Result<()> {
        self.bind()?;
        let bytes = from.bytes().min(to.bytes());
        // SAFETY: both have at least as many bytes; they go back in the order of the stream, after the copy.
        unsafe {
            result::memcpy_dtod_async(to.address(), from.address(), bytes, self.stream.cu_stream())
        }
        .map_err(driver("copy"))
    }

    /// Bytes of its second-level cache: what is smaller may be read without its memory.
    ///
    /// # Errors
    /// What the driver says.
    pub fn cache_bytes(&self) -> Result<usize> {
        let context = self.stream.context();
        let bytes = context.attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
        let bytes = bytes.map_err(driver("ask for the cache's size"))?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }
}
