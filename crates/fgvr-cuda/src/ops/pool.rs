//! Max, average and global pooling of channels-last maps, with their gradients.

use super::columns::{Tiling, counted, pack};
use super::rows::{Rows, THREADS};
use crate::source::{GLOBAL_MEAN, POOL};
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Result};

/// Vectors of channels that a block of the global mean takes.
const COLUMNS: usize = 32;

/// A pooling of (N, H, W, C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// (N, H, W, C) of the input.
    pub input: [usize; 4],
    /// Side of the window, 1 to 16.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Places added around the input, at most half of the kernel.
    pub padding: usize,
}

impl Pool {
    /// (N, H, W, C) of the output; the last window lies wholly inside the padded input.
    ///
    /// # Errors
    /// Sides outside their bounds, or an input smaller than the window.
    pub fn output(&self) -> Result<[usize; 4]> {
        let [n, h, w, c] = self.input;
        let Self {
            kernel,
            stride,
            padding,
            ..
        } = *self;
        let bounds = (1..=16).contains(&kernel) && stride > 0 && padding <= kernel / 2;
        if !bounds || h == 0 || w == 0 || h.min(w) + 2 * padding < kernel {
            return Err(Error::Shape {
                op: "pool",
                what: "windows",
                expected: "a kernel of 1 to 16, a stride of 1 or more, padding of at most half the kernel, an input of at least one window".into(),
                found: format!("{self:?}"),
            });
        }
        let side = |from: usize| (from + 2 * padding - kernel) / stride + 1;
        Ok([n, side(h), side(w), c])
    }

    /// Input and output, each as rows of places, with what the kernels take last.
    fn rows(&self, op: &'static str) -> Result<(Rows, Rows, [i32; 7])> {
        let ([n, h, w, c], [_, oh, ow, _]) = (self.input, self.output()?);
        let rows = |h: usize, w: usize| -> Result<Rows> {
            Ok(Rows::new(counted(op, "places", &[n, h, w])?, c))
        };
        let (input, output) = (rows(h, w)?, rows(oh, ow)?);
        let sides = [h, w, oh, ow, self.kernel, self.stride, self.padding];
        Ok((input, output, sides.map(|side| side as i32)))
    }
}

fn module(x: &Array, op: &'static str, what: &'static str) -> Result<Module> {
    Ok(Module {
        file: &POOL,
        real: x.real(op, what)?,
    })
}

/// The largest value of each window, and the tap (row * kernel + column, u8) it came from: the first, where
/// several are equal.
///
/// # Errors
/// Operands of other lengths or types, a window that [`Pool::output`] refuses; what the machine says.
pub fn max(machine: &dyn Machine, x: &Array, pool: &Pool) -> Result<(Array, Array)> {
    const OP: &str = "max pool";
    let module = module(x, OP, "x")?;
    let (input, output, sides) = pool.rows(OP)?;
    x.expect(OP, "x", x.dtype(), input.len())?;
    let y = Array::new(machine, x.dtype(), output.len())?;
    let taps = Array::new(machine, DType::U8, output.len())?;
    let operands = [
        Argument::Array(x),
        Argument::Array(&y),
        Argument::Array(&taps),
    ];
    let kernels = ["max_pool", "max_pool_any"];
    Tiling::each(output, module).launch(machine, module, kernels, &operands, &sides)?;
    Ok((y, taps))
}

/// The gradient of [`max`]: to the tap that was taken.
///
/// # Errors
/// Operands of other lengths or types, a window that [`Pool::output`] refuses; what the machine says.
pub fn max_grad(machine: &dyn Machine, dy: &Array, taps: &Array, pool: &Pool) -> Result<Array> {
    const OP: &str = "max pool gradient";
    let module = module(dy, OP, "dy")?;
    let (input, output, sides) = pool.rows(OP)?;
    dy.expect(OP, "dy", dy.dtype(), output.len())?;
    taps.expect(OP, "taps", DType::U8, output.len())?;
    let dx = Array::new(machine, dy.dtype(), input.len())?;
    let operands = [
        Argument::Array(dy),
        Argument::Array(taps),
        Argument::Array(&dx),
    ];
    let kernels = ["max_pool_grad", "max_pool_grad_any"];
    Tiling::each(input, module).launch(machine, module, kernels, &operands, &sides)?;
    Ok(dx)
}

/// The mean of each window, places of the padding counted as zeros.
///
/// # Errors
/// Operands of other lengths or types, a window that [`Pool::output`] refuses; what the machine says.
pub fn average(machine: &dyn Machine, x: &Array, pool: &Pool) -> Result<Array> {
    const OP: &str = "average pool";
    let module = module(x, OP, "x")?;
    let (input, output, sides) = pool.rows(OP)?;
    x.expect(OP, "x", x.dtype(), input.len())?;
    let y = Array::new(machine, x.dtype(), output.len())?;
    let operands = [Argument::Array(x), Argument::Array(&y)];
    let kernels = ["average_pool", "average_pool_any"];
    Tiling::each(output, module).launch(machine, module, kernels, &operands, &sides)?;
    Ok(y)
}

/// The gradient of [`average`].
///
/// # Errors
/// Operands of other lengths or types, a window that [`Pool::output`] refuses; what the machine says.
pub fn average_grad(machine: &dyn Machine, dy: &Array, pool: &Pool) -> Result<Array> {
    const OP: &str = "average pool gradient";
    let module = module(dy, OP, "dy")?;
    let (input, output, sides) = pool.rows(OP)?;
    dy.expect(OP, "dy", dy.dtype(), output.len())?;
    let dx = Array::new(machine, dy.dtype(), input.len())?;
    let operands = [Argument::Array(dy), Argument::Array(&dx)];
    let kernels = ["average_pool_grad", "average_pool_grad_any"];
    Tiling::each(input, module).launch(machine, module, kernels, &operands, &sides)?;
    Ok(dx)
}

/// The mean over all places of `x` (N, places, C): (N, C).
///
/// # Errors
/// Operands of other lengths or types, maps without places; what the machine says.
pub fn global_mean(machine: &dyn Machine, x: &Array, [n, places, c]: [usize; 3]) -> Result<Array> {
    const OP: &str = "global mean";
    let module = Module {
        file: &GLOBAL_MEAN,
        real: x.real(OP, "x")?,
    };
    some_places(OP, places)?;
    x.expect(OP, "x", x.dtype(), n * places * c)?;
    let y = Array::new(machine, x.dtype(), n * c)?;
    if y.is_empty() {
        return Ok(y);
    }
    let vector = c.is_multiple_of(pack(module));
    let vectors = c / if vector { pack(module) } else { 1 };
    let columns = vectors.min(COLUMNS);
    machine.launch(&Launch {
        module,
        kernel: if vector {
            "global_mean"
        } else {
            "global_mean_any"
        },
        grid: [
            counted(OP, "images", &[n])? as u32,
            vectors.div_ceil(columns) as u32,
            1,
        ],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments: &[
            Argument::Array(x),
            Argument::Array(&y),
            Argument::I64(places as i64),
            Argument::I32(c as i32),
            Argument::I32(columns as i32),
        ],
    })?;
    Ok(y)
}

/// The gradient of [`global_mean`]: an equal share for each place.
///
/// # Errors
/// Operands of other lengths or types, maps without places; what the machine says.
pub fn global_mean_grad(
    machine: &dyn Machine,
    dy: &Array,
    [n, places, c]: [usize; 3],
) -> Result<Array> {
    const OP: &str = "global mean gradient";
    let module = Module {
        file: &GLOBAL_MEAN,
        real: dy.real(OP, "dy")?,
    };
    some_places(OP, places)?;
    let rows = Rows::new(counted(OP, "places", &[n, places])?, c);
    dy.expect(OP, "dy", dy.dtype(), n * c)?;
    let dx = Array::new(machine, dy.dtype(), rows.len())?;
    let operands = [Argument::Array(dy), Argument::Array(&dx)];
    let kernels = ["global_mean_grad", "global_mean_grad_any"];
    Tiling::each(rows, module).launch(machine, module, kernels, &operands, &[places as i32])?;
    Ok(dx)
}

fn some_places(op: &'static str, places: usize) -> Result<()> {
    if places > 0 {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        what: "places",
        expected: "1 or more".into(),
        found: "0".into(),
    })
}
