//! Mean squared error: the loss of a reconstruction, with its gradient.

use super::columns::pack;
use super::rows::THREADS;
use crate::source::SQUARED_ERROR;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Result};

/// Packs that one thread takes, at least.
const PACKS: usize = 4;
/// Blocks, at most: several for each processor of a large GPU.
const BLOCKS: usize = 1024;

/// The mean over all values of (images - target)^2, one f32, and the gradient of `weight` times it at
/// `images`: weight 2 (images - target) / n, of their type. `target` is a constant.
///
/// # Errors
/// Operands of other lengths or types, no values; what the machine says.
pub fn mean_squared_error(
    machine: &dyn Machine,
    images: &Array,
    target: &Array,
    weight: f32,
) -> Result<(Array, Array)> {
    const OP: &str = "mean squared error";
    let module = Module {
        file: &SQUARED_ERROR,
        real: images.real(OP, "images")?,
    };
    let len = images.len();
    target.expect(OP, "target", images.dtype(), len)?;
    if len == 0 {
        return Err(Error::Shape {
            op: OP,
            what: "images",
            expected: "at least one value".into(),
            found: "none".into(),
        });
    }
    let blocks = len
        .div_ceil(pack(module) * PACKS * THREADS)
        .clamp(1, BLOCKS);
    let gradient = Array::new(machine, images.dtype(), len)?;
    let partial = Array::new(machine, DType::F64, blocks)?;
    let loss = Array::new(machine, DType::F32, 1)?;
    let start = |kernel, blocks: usize, arguments: &[Argument<'_>]| {
        machine.launch(&Launch {
            module,
            kernel,
            grid: [blocks as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments,
        })
    };
    let arguments = [
        Argument::Array(images),
        Argument::Array(target),
        Argument::Array(&gradient),
        Argument::Array(&partial),
        Argument::I64(len as i64),
        Argument::F32((2. * f64::from(weight) / len as f64) as f32),
    ];
    start("squared_error", blocks, &arguments)?;
    let arguments = [
        Argument::Array(&partial),
        Argument::Array(&loss),
        Argument::I32(blocks as i32),
        Argument::F64(len as f64),
    ];
    start("squared_error_finish", 1, &arguments)?;
    Ok((loss, gradient))
}
