//! Bytes on their way to a machine, and how the host copies them.

use std::any::Any;

use rayon::prelude::*;

use crate::{Array, Error, Machine, Memory, Result};

/// Bytes that one thread copies at a time: enough to hide what handing them out costs.
const PART: usize = 4 << 20;

/// Memory of a machine that is being filled; [`Machine::receive`] hands it out. Given back if it is dropped.
///
/// Nothing can be launched on it before it is received: that is what orders the two.
pub struct Staged {
    bytes: usize,
    held: Box<dyn Any + Send>,
}

impl Staged {
    /// `bytes` on their way, and what their machine knows of them.
    #[must_use]
    pub fn new(bytes: usize, held: Box<dyn Any + Send>) -> Self {
        Self { bytes, held }
    }

    /// How many there are.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What their machine knows of them.
    ///
    /// # Errors
    /// Bytes of another kind of machine.
    pub fn into_held<T: 'static>(self) -> Result<T> {
        let held = self.held.downcast().map_err(|_| elsewhere())?;
        Ok(*held)
    }
}

/// What a machine says of bytes that are on their way to another.
pub(crate) fn elsewhere() -> Error {
    Error::Shape {
        op: "receive",
        what: "staged bytes",
        expected: "bytes staged on this machine".into(),
        found: "bytes of another".into(),
    }
}

impl Array {
    /// Starts a copy of `values` to new memory; see [`Machine::stage`]. [`Machine::receive`] and
    /// [`Array::over`] make an array of f32 of it.
    ///
    /// # Errors
    /// No memory left, on the machine or to page-lock; what the driver says.
    pub fn stage_f32(machine: &dyn Machine, values: &[f32]) -> Result<Staged> {
        machine.stage(bytes_of(values))
    }

    /// A copy of `values` that waits for nothing that was started before, as a larger one of [`Array::from_f64`] may:
    /// [`Machine::stage`] and [`Machine::receive`] at once.
    ///
    /// # Errors
    /// No memory left, on the machine or to page-lock; what the driver says.
    pub fn send_f64(machine: &dyn Machine, values: &[f64]) -> Result<Self> {
        let memory = machine.receive(machine.stage(bytes_of(values))?)?;
        Self::over(memory, crate::DType::F64, values.len())
    }

    /// A copy of `values` that waits for nothing that was started before.
    ///
    /// # Errors
    /// No memory left, on the machine or to page-lock; what the driver says.
    pub fn send_u32(machine: &dyn Machine, values: &[u32]) -> Result<Self> {
        let memory = machine.receive(machine.stage(bytes_of(values))?)?;
        Self::over(memory, crate::DType::U32, values.len())
    }

    /// What [`Array::stage_f32`] sent.
    ///
    /// # Errors
    /// What was staged on another machine; what the driver says.
    pub fn receive_f32(machine: &dyn Machine, staged: Staged) -> Result<Self> {
        let memory: Memory = machine.receive(staged)?;
        let len = memory.bytes() / size_of::<f32>();
        Self::over(memory, crate::DType::F32, len)
    }
}

/// Numbers without padding.
pub(crate) trait Number: Copy {}
impl Number for f32 {}
impl Number for f64 {}
impl Number for u32 {}

/// The bytes of `values`, in the machine's order.
pub(crate) fn bytes_of<T: Number>(values: &[T]) -> &[u8] {
    // SAFETY: a number has no padding, and a byte may stand anywhere; the same memory for as long.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Copies `from` to `to`, which is as long: hundreds of megabytes by several threads, since one does not reach
/// what memory can do.
pub(crate) fn copy(from: &[u8], to: &mut [u8]) {
    if from.len() <= PART {
        to.copy_from_slice(from);
        return;
    }
    to.par_chunks_mut(PART)
        .zip(from.par_chunks(PART))
        .for_each(|(to, from)| to.copy_from_slice(from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_parts_is_whole() {
        for len in [0, 1, PART, PART + 1, 3 * PART - 7] {
            let from: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut to = vec![255; len];
            copy(&from, &mut to);
            assert!(to == from, "{len} bytes");
        }
    }
}
