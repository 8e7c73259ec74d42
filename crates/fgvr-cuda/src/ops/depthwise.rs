//! Depthwise convolutions, each channel by itself, and their gradients.

use super::columns::{Tiling, counted};
use super::rows::{Rows, THREADS, WARPS};
use crate::source::DEPTHWISE;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Result};

/// A depthwise convolution of maps x (N, H, W, C) by weights w (k*k, C) to y (N, H', W', C).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Depthwise {
    /// (N, H, W, C)
    pub input: [usize; 4],
    /// H' and W'
    pub output: [usize; 2],
    /// k: one of [`Depthwise::KERNELS`].
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Places of zeros above the input; below are as many as the last window needs.
    pub top: usize,
    /// The same to its left.
    pub left: usize,
}

impl Depthwise {
    /// The sides of windows that there are kernels for.
    pub const KERNELS: [usize; 2] = [3, 5];

    /// Input and output, each as rows of places, with what the kernels take last.
    fn rows(&self, op: &'static str) -> Result<(Rows, Rows, [i32; 8])> {
        let ([n, h, w, c], [oh, ow]) = (self.input, self.output);
        if !Self::KERNELS.contains(&self.kernel) || self.stride == 0 || [h, w, oh, ow].contains(&0)
        {
            return Err(Error::Shape {
                op,
                what: "windows",
                expected: "a kernel of 3 or 5, a stride of 1 or more, maps of at least one place"
                    .into(),
                found: format!("{self:?}"),
            });
        }
        let rows = |h: usize, w: usize| -> Result<Rows> {
            Ok(Rows::new(counted(op, "places", &[n, h, w])?, c))
        };
        let (input, output) = (rows(h, w)?, rows(oh, ow)?);
        let sides = [h, w, oh, ow, self.stride, self.top, self.left, self.kernel];
        Ok((input, output, sides.map(|side| side as i32)))
    }

    /// Values of the weights.
    #[must_use]
    pub fn weight_len(&self) -> usize {
        self.kernel * self.kernel * self.input[3]
    }
}

fn module(x: &Array, op: &'static str, what: &'static str) -> Result<Module> {
    Ok(Module {
        file: &DEPTHWISE,
        real: x.real(op, what)?,
    })
}

/// y of `x` and `weight` (k*k, C) of f32.
///
/// # Errors
/// Operands of other lengths or types, windows of a size that there is no kernel for; what the machine says.
pub fn forward(
    machine: &dyn Machine,
    x: &Array,
    weight: &Array,
    shape: &Depthwise,
) -> Result<Array> {
    const OP: &str = "depthwise convolution";
    let module = module(x, OP, "x")?;
    let (input, output, sides) = shape.rows(OP)?;
    x.expect(OP, "x", x.dtype(), input.len())?;
    weight.expect(OP, "weight", DType::F32, shape.weight_len())?;
    let y = Array::new(machine, x.dtype(), output.len())?;
    let operands = [
        Argument::Array(x),
        Argument::Array(weight),
        Argument::Array(&y),
    ];
    let kernels = ["depthwise", "depthwise_any"];
    Tiling::each(output, module).launch(machine, module, kernels, &operands, &sides)?;
    Ok(y)
}

/// dx of `dy` and `weight` (k*k, C) of f32.
///
/// # Errors
/// Operands of other lengths or types, windows of a size that there is no kernel for; what the machine says.
pub fn grad_input(
    machine: &dyn Machine,
    dy: &Array,
    weight: &Array,
    shape: &Depthwise,
) -> Result<Array> {
    const OP: &str = "depthwise convolution gradient of x";
    let module = module(dy, OP, "dy")?;
    let (input, output, sides) = shape.rows(OP)?;
    dy.expect(OP, "dy", dy.dtype(), output.len())?;
    weight.expect(OP, "weight", DType::F32, shape.weight_len())?;
    let dx = Array::new(machine, dy.dtype(), input.len())?;
    let operands = [
        Argument::Array(dy),
        Argument::Array(weight),
        Argument::Array(&dx),
    ];
    let kernels = ["depthwise_grad_input", "depthwise_grad_input_any"];
    Tiling::each(input, module).launch(machine, module, kernels, &operands, &sides)?;
    Ok(dx)
}

/// dw (k*k, C) of f32, of `x` and `dy`.
///
/// # Errors
/// Operands of other lengths or types, windows of a size that there is no kernel for; what the machine says.
pub fn grad_weight(
    machine: &dyn Machine,
    x: &Array,
    dy: &Array,
    shape: &Depthwise,
) -> Result<Array> {
    const OP: &str = "depthwise convolution gradient of the weights";
    let module = module(x, OP, "x")?;
    let (input, output, sides) = shape.rows(OP)?;
    x.expect(OP, "x", x.dtype(), input.len())?;
    dy.expect(OP, "dy", x.dtype(), output.len())?;
    let tiling = Tiling::sums(output, module);
    let (channels, kernel) = (output.channels, shape.kernel);
    let partial = Array::new(machine, DType::F32, kernel * tiling.slabs * channels)?;
    let dw = Array::new(machine, DType::F32, shape.weight_len())?;
    if channels == 0 {
        return Ok(dw);
    }
    // No rows have left no partial sums.
    let slabs = if output.rows == 0 { 0 } else { tiling.slabs };
    let kernels = ["depthwise_grad_weight", "depthwise_grad_weight_any"];
    let operands = [
        Argument::Array(x),
        Argument::Array(dy),
        Argument::Array(&partial),
    ];
    for ky in 0..kernel as i32 {
        let sides: Vec<i32> = sides.into_iter().chain([ky]).collect();
        tiling.launch(machine, module, kernels, &operands, &sides)?;
        machine.launch(&Launch {
            module,
            kernel: "depthwise_grad_weight_finish",
            grid: [channels.div_ceil(WARPS) as u32, kernel as u32, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &[
                Argument::Array(&partial),
                Argument::Array(&dw),
                Argument::I32(slabs as i32),
                Argument::I32(channels as i32),
                Argument::I32(kernel as i32),
                Argument::I32(ky),
            ],
        })?;
    }
    Ok(dw)
}
