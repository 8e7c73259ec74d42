//! Softmax over rows, and its gradient.

use super::rows::{RowKernel, Rows};
use crate::source::SOFTMAX;
use crate::{Array, Machine, Result};

/// y = exp(x - max x) / sum exp(x - max x) for each row.
///
/// # Errors
/// An operand of another length or type; what the machine says.
pub fn forward(machine: &dyn Machine, x: &Array, rows: Rows) -> Result<Array> {
    let kernel = RowKernel {
        file: &SOFTMAX,
        op: "softmax",
        names: ["softmax", "softmax_long"],
        packed: false,
    };
    kernel.run(machine, &[("x", x)], rows, None)
}

/// The gradient of x from the output y: y (dy - sum dy y).
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn backward(machine: &dyn Machine, dy: &Array, y: &Array, rows: Rows) -> Result<Array> {
    let kernel = RowKernel {
        file: &SOFTMAX,
        op: "softmax gradient",
        names: ["softmax_backward", "softmax_backward_long"],
        packed: false,
    };
    kernel.run(machine, &[("dy", dy), ("y", y)], rows, None)
}
