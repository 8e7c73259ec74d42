//! Rows scaled to a Euclidean length of one, and the gradient.

use super::rows::{RowKernel, Rows};
use crate::source::L2_NORMALISE;
use crate::{Array, Machine, Result};

/// y = x / max(|x|, eps) for each row.
///
/// # Errors
/// An operand of another length or type; what the machine says.
pub fn forward(machine: &dyn Machine, x: &Array, rows: Rows, eps: f64) -> Result<Array> {
    let kernel = RowKernel {
        file: &L2_NORMALISE,
        op: "L2 normalise",
        names: ["l2_normalise", "l2_normalise_long"],
        packed: true,
    };
    kernel.run(machine, &[("x", x)], rows, Some(eps))
}

/// The gradient of x: (dy - y (y · dy)) / |x|, or dy / eps where |x| <= eps.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn backward(
    machine: &dyn Machine,
    dy: &Array,
    x: &Array,
    rows: Rows,
    eps: f64,
) -> Result<Array> {
    let kernel = RowKernel {
        file: &L2_NORMALISE,
        op: "L2 normalise gradient",
        names: ["l2_normalise_backward", "l2_normalise_backward_long"],
        packed: true,
    };
    kernel.run(machine, &[("dy", dy), ("x", x)], rows, Some(eps))
}
