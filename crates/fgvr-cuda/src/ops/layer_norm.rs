//! Layer norm over rows of channels, and its gradients.

use super::rows::{Rows, THREADS, WARP, WARPS};
use crate::source::LAYER_NORM;
use crate::{Argument, Array, DType, Launch, Machine, Module, Result};

/// Rows that a warp walks for the sums over rows, at least: enough to hide what starting costs.
const ROWS_PER_WARP: usize = 16;
/// Slabs of rows, at most: several blocks for each processor of a large GPU.
const SLABS: usize = 512;

/// What each row was shifted and scaled by.
pub struct Statistics {
    /// Mean (rows).
    pub mean: Array,
    /// 1 / sqrt(variance + eps) (rows).
    pub inverse: Array,
}

/// The gradients of layer norm.
pub struct Gradients {
    /// Gradient of x, of its type.
    pub x: Array,
    /// Gradient of the weight (channels), f32.
    pub weight: Array,
    /// Gradient of the bias (channels), f32.
    pub bias: Array,
}

/// y = (x - mean) / sqrt(variance + eps) * weight + bias for each row; `weight` and `bias` (channels) of
/// f32.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn forward(
    machine: &dyn Machine,
    x: &Array,
    rows: Rows,
    [weight, bias]: [&Array; 2],
    eps: f64,
) -> Result<(Array, Statistics)> {
    const OP: &str = "layer norm";
    let (module, rows) = (module(x, OP)?, rows.in_one_group());
    x.expect(OP, "x", x.dtype(), rows.len())?;
    weight.expect(OP, "weight", DType::F32, rows.channels)?;
    bias.expect(OP, "bias", DType::F32, rows.channels)?;
    let y = Array::new(machine, x.dtype(), rows.len())?;
    let kept = Statistics {
        mean: Array::new(machine, DType::F32, rows.rows)?,
        inverse: Array::new(machine, DType::F32, rows.rows)?,
    };
    if rows.len() == 0 {
        return Ok((y, kept));
    }
    let held = rows.short() && rows.packed(module.real);
    let (grid, block) = if held { rows.warps() } else { rows.blocks() };
    machine.launch(&Launch {
        module,
        kernel: if held {
            "layer_norm"
        } else {
            "layer_norm_long"
        },
        grid,
        block,
        shared: 0,
        arguments: &[
            Argument::Array(x),
            Argument::Array(weight),
            Argument::Array(bias),
            Argument::Array(&y),
            Argument::Array(&kept.mean),
            Argument::Array(&kept.inverse),
            Argument::I64(rows.rows as i64),
            Argument::I32(rows.channels as i32),
            Argument::F64(eps),
        ],
    })?;
    Ok((y, kept))
}

/// The gradients of x, weight and bias from `dy`, that of the output.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn backward(
    machine: &dyn Machine,
    dy: &Array,
    x: &Array,
    rows: Rows,
    weight: &Array,
    kept: &Statistics,
) -> Result<Gradients> {
    const OP: &str = "layer norm gradients";
    let (module, rows) = (module(x, OP)?, rows.in_one_group());
    x.expect(OP, "x", x.dtype(), rows.len())?;
    dy.expect(OP, "dy", x.dtype(), rows.len())?;
    weight.expect(OP, "weight", DType::F32, rows.channels)?;
    kept.mean.expect(OP, "mean", DType::F32, rows.rows)?;
    kept.inverse.expect(OP, "inverse", DType::F32, rows.rows)?;
    let slabs = rows.rows.div_ceil(WARPS * ROWS_PER_WARP).clamp(1, SLABS);
    let slab = rows.rows.div_ceil(slabs).max(1);
    let slabs = rows.rows.div_ceil(slab);
    let made = Gradients {
        x: Array::new(machine, x.dtype(), rows.len())?,
        weight: Array::new(machine, DType::F32, rows.channels)?,
        bias: Array::new(machine, DType::F32, rows.channels)?,
    };
    if rows.channels == 0 {
        return Ok(made);
    }
    let partial = Array::new(machine, DType::F32, 2 * slabs * rows.channels)?;
    let start = |kernel, (grid, block), arguments: &[Argument<'_>]| {
        machine.launch(&Launch {
            module,
            kernel,
            grid,
            block,
            shared: 0,
            arguments,
        })
    };
    let all = [THREADS as u32, 1, 1];
    let tiles = rows.channels.div_ceil(WARP) as u32;
    let operands = [
        Argument::Array(dy),
        Argument::Array(x),
        Argument::Array(weight),
        Argument::Array(&kept.mean),
        Argument::Array(&kept.inverse),
    ];
    let sizes = [
        Argument::I64(rows.rows as i64),
        Argument::I64(slab as i64),
        Argument::I32(rows.channels as i32),
    ];
    if rows.rows > 0 && rows.short() && rows.packed(module.real) {
        let mut arguments = operands.to_vec();
        arguments.extend([Argument::Array(&made.x), Argument::Array(&partial)]);
        arguments.extend(sizes);
        start(
            "layer_norm_backward",
            ([slabs as u32, 1, 1], all),
            &arguments,
        )?;
    } else if rows.rows > 0 {
        let mut arguments = operands.to_vec();
        arguments.extend([Argument::Array(&made.x), sizes[0], sizes[2]]);
        start("layer_norm_grad_input_long", rows.blocks(), &arguments)?;
        let mut arguments = vec![operands[0], operands[1], operands[3], operands[4]];
        arguments.push(Argument::Array(&partial));
        arguments.extend(sizes);
        start(
            "layer_norm_grad_sums_long",
            ([tiles, slabs as u32, 1], all),
            &arguments,
        )?;
    }
    let arguments = [
        Argument::Array(&partial),
        Argument::Array(&made.weight),
        Argument::Array(&made.bias),
        Argument::I32(slabs as i32),
        Argument::I32(rows.channels as i32),
    ];
    start("layer_norm_grad_finish", ([tiles, 1, 1], all), &arguments)?;
    Ok(made)
}

fn module(x: &Array, op: &'static str) -> Result<Module> {
    Ok(Module {
        file: &LAYER_NORM,
        real: x.real(op, "x")?,
    })
}
