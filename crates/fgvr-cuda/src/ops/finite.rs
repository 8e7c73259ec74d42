//! Whether arrays hold nothing but finite numbers.

use super::rows::THREADS;
use super::tensors::CHUNK;
use crate::source::FINITE;
use crate::{Argument, Array, DType, Launch, Machine, Module, Real, Result};

/// Arrays of one launch, as `kernels/finite.cu` takes them.
const ARRAYS: usize = 8;
const OP: &str = "all finite";
const MODULE: Module = Module {
    file: &FINITE,
    real: Real::F32,
};

/// One u32: 1 if every value of `arrays` (f32) is finite, 0 otherwise; 1 of no values. Nothing is waited
/// for: the answer is on the machine, to be read with what else is read of a step.
///
/// Up to 8 arrays take one launch, and all together another one unless there is one of up to 4096 values. For all
/// gradients of a network, [`GradientNorm`](super::optimizer::GradientNorm) says the same in passing.
///
/// # Errors
/// An array of another type; what the machine says.
pub fn all_finite(machine: &dyn Machine, arrays: &[&Array]) -> Result<Array> {
    let mut held = Vec::with_capacity(arrays.len());
    for array in arrays {
        array.expect(OP, "array", DType::F32, array.len())?;
        if !array.is_empty() {
            held.push(*array);
        }
    }
    if held.is_empty() {
        return Array::from_u32(machine, &[1]);
    }
    let chunks = |array: &Array| array.len().div_ceil(CHUNK);
    let count: usize = held.iter().map(|array| chunks(array)).sum();
    let flags = Array::new(machine, DType::U32, count)?;
    let mut first = 0;
    for some in held.chunks(ARRAYS) {
        let blocks: usize = some.iter().map(|array| chunks(array)).sum();
        let pointer = |at: usize| Argument::optional(some.get(at).copied());
        let len = |at: usize| Argument::I64(some.get(at).map_or(0, |array| array.len()) as i64);
        let mut arguments: Vec<Argument<'_>> = (0..ARRAYS).map(pointer).collect();
        arguments.extend((0..ARRAYS).map(len));
        arguments.extend([Argument::Array(&flags), Argument::I64(first as i64)]);
        launch(machine, "finite_chunks", blocks, &arguments)?;
        first += blocks;
    }
    if count == 1 {
        return Ok(flags);
    }
    let all = Array::new(machine, DType::U32, 1)?;
    let arguments = [
        Argument::Array(&flags),
        Argument::Array(&all),
        Argument::I64(count as i64),
    ];
    launch(machine, "finite_all", 1, &arguments)?;
    Ok(all)
}

fn launch(
    machine: &dyn Machine,
    kernel: &'static str,
    blocks: usize,
    arguments: &[Argument<'_>],
) -> Result<()> {
    machine.launch(&Launch {
        module: MODULE,
        kernel,
        grid: [blocks as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments,
    })
}
