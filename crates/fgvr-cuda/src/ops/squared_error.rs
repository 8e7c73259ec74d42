//! Mean squared error, the loss of a reconstruction, with its gradient; and mean absolute error.

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
    let compared = Compared::new(machine, "mean squared error", images, target)?;
    let gradient = Array::new(machine, images.dtype(), images.len())?;
    compared.start(
        machine,
        "squared_error",
        &[
            Argument::Array(images),
            Argument::Array(target),
            Argument::Array(&gradient),
            Argument::Array(&compared.partial),
            Argument::I64(compared.len as i64),
            Argument::F32((2. * f64::from(weight) / compared.len as f64) as f32),
        ],
    )?;
    Ok((compared.mean(machine)?, gradient))
}

/// The mean over all values of |images - target|, one f32.
///
/// # Errors
/// Operands of other lengths or types, no values; what the machine says.
pub fn mean_absolute_error(machine: &dyn Machine, images: &Array, target: &Array) -> Result<Array> {
    let compared = Compared::new(machine, "mean absolute error", images, target)?;
    compared.start(
        machine,
        "absolute_error",
        &[
            Argument::Array(images),
            Argument::Array(target),
            Argument::Array(&compared.partial),
            Argument::I64(compared.len as i64),
        ],
    )?;
    compared.mean(machine)
}

/// Two maps that are compared, and the sums of blocks.
struct Compared {
    module: Module,
    len: usize,
    blocks: usize,
    partial: Array,
}

impl Compared {
    fn new(
        machine: &dyn Machine,
        op: &'static str,
        images: &Array,
        target: &Array,
    ) -> Result<Self> {
        let module = Module {
            file: &SQUARED_ERROR,
            real: images.real(op, "images")?,
        };
        let len = images.len();
        target.expect(op, "target", images.dtype(), len)?;
        if len == 0 {
            return Err(Error::Shape {
                op,
                what: "images",
                expected: "at least one value".into(),
                found: "none".into(),
            });
        }
        let blocks = len
            .div_ceil(pack(module) * PACKS * THREADS)
            .clamp(1, BLOCKS);
        Ok(Self {
            module,
            len,
            blocks,
            partial: Array::new(machine, DType::F64, blocks)?,
        })
    }

    fn start(
        &self,
        machine: &dyn Machine,
        kernel: &'static str,
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        self.launch(machine, kernel, self.blocks, arguments)
    }

    /// The mean of what the blocks have summed.
    fn mean(&self, machine: &dyn Machine) -> Result<Array> {
        let mean = Array::new(machine, DType::F32, 1)?;
        let arguments = [
            Argument::Array(&self.partial),
            Argument::Array(&mean),
            Argument::I32(self.blocks as i32),
            Argument::F64(self.len as f64),
        ];
        self.launch(machine, "squared_error_finish", 1, &arguments)?;
        Ok(mean)
    }

    fn launch(
        &self,
        machine: &dyn Machine,
        kernel: &'static str,
        blocks: usize,
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        machine.launch(&Launch {
            module: self.module,
            kernel,
            grid: [blocks as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments,
        })
    }
}
