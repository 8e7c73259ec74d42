//! GELU, x Φ(x) (arXiv:1606.08415), and its gradient.

use super::rows::THREADS;
use crate::source::GELU;
use crate::{Argument, Array, DType, Launch, Machine, Module, Result};

/// y = x Φ(x).
///
/// # Errors
/// An operand of another type; what the machine says.
pub fn forward(machine: &dyn Machine, x: &Array) -> Result<Array> {
    start(machine, "gelu", &[x], x)
}

/// dx = dy (Φ(x) + x φ(x)).
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn backward(machine: &dyn Machine, dy: &Array, x: &Array) -> Result<Array> {
    dy.expect("GELU gradient", "dy", x.dtype(), x.len())?;
    start(machine, "gelu_backward", &[dy, x], x)
}

fn start(
    machine: &dyn Machine,
    kernel: &'static str,
    inputs: &[&Array],
    like: &Array,
) -> Result<Array> {
    let real = like.real("GELU", "x")?;
    let out = Array::new(machine, like.dtype(), like.len())?;
    if like.is_empty() {
        return Ok(out);
    }
    let pack = 16 / DType::from(real).bytes();
    let blocks = like.len().div_ceil(pack).div_ceil(THREADS);
    let mut arguments: Vec<_> = inputs.iter().map(|array| Argument::Array(array)).collect();
    arguments.extend([Argument::Array(&out), Argument::I64(like.len() as i64)]);
    machine.launch(&Launch {
        module: Module { file: &GELU, real },
        kernel,
        grid: [blocks as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments: &arguments,
    })?;
    Ok(out)
}
