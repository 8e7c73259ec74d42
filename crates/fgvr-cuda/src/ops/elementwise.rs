//! What is done to each value and to each row of channels, with the gradients.

use super::ActivationFunction;
use super::columns::{Tiling, launch_flat};
use super::rows::{Rows, THREADS, WARPS};
use crate::source::ELEMENTWISE;
use crate::{Argument, Array, DType, Launch, Machine, Module, Result};

fn module(x: &Array, op: &'static str) -> Result<Module> {
    Ok(Module {
        file: &ELEMENTWISE,
        real: x.real(op, "x")?,
    })
}

/// y += x: a gradient added to one that is there.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn add_to(machine: &dyn Machine, y: &Array, x: &Array) -> Result<()> {
    const OP: &str = "add";
    let module = module(x, OP)?;
    y.expect(OP, "y", x.dtype(), x.len())?;
    let operands = [Argument::Array(y), Argument::Array(x)];
    launch_flat(machine, module, "add_to", &operands, x.len())
}

/// `activation` of each value.
///
/// # Errors
/// An array of another type; what the machine says.
pub fn activate(machine: &dyn Machine, x: &Array, activation: ActivationFunction) -> Result<Array> {
    let module = module(x, "activation")?;
    let kernel = match activation {
        ActivationFunction::Identity => return Ok(x.clone()),
        ActivationFunction::Relu => "relu",
        ActivationFunction::Relu6 => "relu6",
    };
    let y = Array::new(machine, x.dtype(), x.len())?;
    let operands = [Argument::Array(x), Argument::Array(&y)];
    launch_flat(machine, module, kernel, &operands, x.len())?;
    Ok(y)
}

/// The gradient of [`activate`], from its output `y` and the gradient `dy` there.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn activate_grad(
    machine: &dyn Machine,
    dy: &Array,
    y: &Array,
    activation: ActivationFunction,
) -> Result<Array> {
    const OP: &str = "activation gradient";
    let module = module(y, OP)?;
    dy.expect(OP, "dy", y.dtype(), y.len())?;
    let kernel = match activation {
        ActivationFunction::Identity => return Ok(dy.clone()),
        ActivationFunction::Relu => "relu_grad",
        ActivationFunction::Relu6 => "relu6_grad",
    };
    let dx = Array::new(machine, y.dtype(), y.len())?;
    let operands = [
        Argument::Array(dy),
        Argument::Array(y),
        Argument::Array(&dx),
    ];
    launch_flat(machine, module, kernel, &operands, y.len())?;
    Ok(dx)
}

/// x times `factor`.
///
/// # Errors
/// An array of another type; what the machine says.
pub fn scale(machine: &dyn Machine, x: &Array, factor: f32) -> Result<Array> {
    let module = module(x, "scale")?;
    let y = Array::new(machine, x.dtype(), x.len())?;
    let operands = [
        Argument::Array(x),
        Argument::Array(&y),
        Argument::F32(factor),
    ];
    launch_flat(machine, module, "scale", &operands, x.len())?;
    Ok(y)
}

/// What follows the bias of [`add_bias`].
#[derive(Clone, Copy, Default)]
pub struct AfterBias<'a> {
    /// Added, of the type and length of x.
    pub residual: Option<&'a Array>,
    /// Ends it.
    pub activation: ActivationFunction,
}

/// x + `bias` (channels, f32) in each of its rows, and what is `after` it.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn add_bias(
    machine: &dyn Machine,
    x: &Array,
    rows: Rows,
    bias: &Array,
    after: AfterBias<'_>,
) -> Result<Array> {
    const OP: &str = "bias";
    let (module, rows) = (module(x, OP)?, rows.in_one_group());
    x.expect(OP, "x", x.dtype(), rows.len())?;
    bias.expect(OP, "bias", DType::F32, rows.channels)?;
    if let Some(residual) = after.residual {
        residual.expect(OP, "residual", x.dtype(), rows.len())?;
    }
    let y = Array::new(machine, x.dtype(), x.len())?;
    let operands = [
        Argument::Array(x),
        Argument::Array(bias),
        Argument::optional(after.residual),
        Argument::Array(&y),
    ];
    Tiling::each(rows, module).launch(
        machine,
        module,
        ["bias_add", "bias_add_any"],
        &operands,
        &[after.activation.flag()],
    )?;
    Ok(y)
}

/// The sum over the rows of x, (channels) of f32: the gradient of a bias.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn sum_rows(machine: &dyn Machine, x: &Array, rows: Rows) -> Result<Array> {
    const OP: &str = "sum over rows";
    let (module, rows) = (module(x, OP)?, rows.in_one_group());
    x.expect(OP, "x", x.dtype(), rows.len())?;
    let tiling = Tiling::sums(rows, module);
    let partial = Array::new(machine, DType::F32, tiling.slabs * rows.channels)?;
    let operands = [Argument::Array(x), Argument::Array(&partial)];
    let kernels = ["row_sums", "row_sums_any"];
    tiling.launch(machine, module, kernels, &operands, &[])?;
    finish(machine, module, &partial, &tiling, rows)
}

/// x times `gamma` (channels, f32) in each of its rows.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn layer_scale(machine: &dyn Machine, x: &Array, rows: Rows, gamma: &Array) -> Result<Array> {
    const OP: &str = "layer scale";
    let (module, rows) = (module(x, OP)?, rows.in_one_group());
    x.expect(OP, "x", x.dtype(), rows.len())?;
    gamma.expect(OP, "gamma", DType::F32, rows.channels)?;
    let y = Array::new(machine, x.dtype(), x.len())?;
    let operands = [
        Argument::Array(x),
        Argument::Array(gamma),
        Argument::Array(&y),
    ];
    let kernels = ["layer_scale", "layer_scale_any"];
    Tiling::each(rows, module).launch(machine, module, kernels, &operands, &[])?;
    Ok(y)
}

/// The gradients of x and of gamma (channels, f32) of [`layer_scale`].
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn layer_scale_grad(
    machine: &dyn Machine,
    dy: &Array,
    x: &Array,
    rows: Rows,
    gamma: &Array,
) -> Result<(Array, Array)> {
    const OP: &str = "layer scale gradient";
    let (module, rows) = (module(x, OP)?, rows.in_one_group());
    x.expect(OP, "x", x.dtype(), rows.len())?;
    dy.expect(OP, "dy", x.dtype(), rows.len())?;
    gamma.expect(OP, "gamma", DType::F32, rows.channels)?;
    let tiling = Tiling::sums(rows, module);
    let partial = Array::new(machine, DType::F32, tiling.slabs * rows.channels)?;
    let dx = Array::new(machine, x.dtype(), x.len())?;
    let operands = [
        Argument::Array(dy),
        Argument::Array(x),
        Argument::Array(gamma),
        Argument::Array(&dx),
        Argument::Array(&partial),
    ];
    let kernels = ["layer_scale_grad", "layer_scale_grad_any"];
    tiling.launch(machine, module, kernels, &operands, &[])?;
    Ok((dx, finish(machine, module, &partial, &tiling, rows)?))
}

/// The sums over slabs of `partial` (slabs, channels).
fn finish(
    machine: &dyn Machine,
    module: Module,
    partial: &Array,
    tiling: &Tiling,
    rows: Rows,
) -> Result<Array> {
    let sums = Array::new(machine, DType::F32, rows.channels)?;
    if rows.channels == 0 {
        return Ok(sums);
    }
    // No rows have left no partial sums.
    let slabs = if rows.rows == 0 { 0 } else { tiling.slabs };
    machine.launch(&Launch {
        module,
        kernel: "row_sums_finish",
        grid: [rows.channels.div_ceil(WARPS) as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments: &[
            Argument::Array(partial),
            Argument::Array(&sums),
            Argument::I32(slabs as i32),
            Argument::I32(rows.channels as i32),
        ],
    })?;
    Ok(sums)
}
