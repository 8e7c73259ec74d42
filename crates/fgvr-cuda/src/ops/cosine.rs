//! How alike predictions and targets are, row by row: the losses of BYOL and SimSiam, with their gradient.

use super::columns::{counted, pack};
use super::rows::THREADS;
use crate::source::COSINE;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

const WARP: usize = 32;
const MODULE: Module = Module {
    file: &COSINE,
    real: Real::F32,
};

/// What is made of a prediction q and its target k, both first divided by their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// |q - k|^2, which is 2 - 2 q·k where neither is zero: BYOL's (arXiv:2006.07733, eq. 2).
    Distance,
    /// -q·k / 2: SimSiam's (arXiv:2011.10566, eq. 2), of which one of two directions has half.
    HalfNegative,
}

/// Rows of predictions and targets.
#[derive(Clone, Copy)]
pub struct Compared<'a> {
    /// (rows, width) of f32.
    pub predictions: &'a Array,
    /// Likewise; constants.
    pub targets: &'a Array,
    /// At least 1.
    pub rows: usize,
    /// At least 1.
    pub width: usize,
    /// A row that is no longer than this is taken for zero, and a prediction then gets no gradient: 1e-6 in
    /// fgvr-ssl.
    pub shortest: f64,
}

/// What [`cosine`] found.
pub struct Found {
    /// Mean over rows of the loss, one f32.
    pub loss: Array,
    /// Mean over rows of q·k, one f32.
    pub cosine: Array,
    /// Gradient of the loss times the weight at the predictions (rows, width).
    pub gradient: Array,
}

/// The mean loss of predictions against their targets, and the gradient of `weight` times it.
///
/// # Differs
/// Lengths are summed in f64, so that a row is neither zero nor infinite for its square being so in f32.
///
/// # Errors
/// Operands of other lengths or types, no rows, a shortest length that is negative or not finite; what the
/// machine says.
pub fn cosine(
    machine: &dyn Machine,
    compared: &Compared<'_>,
    loss: Loss,
    weight: f32,
) -> Result<Found> {
    const OP: &str = "cosine";
    let Compared { rows, width, .. } = *compared;
    let wrong = |what, expected: &str, found: String| {
        Err(Error::Shape {
            op: OP,
            what,
            expected: expected.into(),
            found,
        })
    };
    if rows == 0 || width == 0 {
        let found = format!("{rows} and {width}");
        return wrong("rows and width", "both above 0", found);
    }
    let shortest = compared.shortest;
    if !(shortest.is_finite() && shortest >= 0.) {
        let found = shortest.to_string();
        return wrong("shortest length", "a finite number, 0 or more", found);
    }
    counted(OP, "rows", &[rows])?;
    counted(OP, "width", &[width])?;
    let [q, k] = [compared.predictions, compared.targets];
    q.expect(OP, "predictions", DType::F32, rows * width)?;
    k.expect(OP, "targets", DType::F32, rows * width)?;
    let new = |len| Array::new(machine, DType::F32, len);
    let (losses, cosines) = (new(rows)?, new(rows)?);
    let found = Found {
        loss: new(1)?,
        cosine: new(1)?,
        gradient: new(rows * width)?,
    };
    let (square, slope) = match loss {
        Loss::Distance => (1., -2.),
        Loss::HalfNegative => (0., -0.5),
    };
    let vector = width.is_multiple_of(pack(MODULE));
    let vectors = width / if vector { pack(MODULE) } else { 1 };
    machine.launch(&Launch {
        module: MODULE,
        kernel: if vector { "cosine" } else { "cosine_any" },
        grid: [rows as u32, 1, 1],
        block: [vectors.next_multiple_of(WARP).min(THREADS) as u32, 1, 1],
        shared: 0,
        arguments: &[
            Argument::Array(q),
            Argument::Array(k),
            Argument::Array(&found.gradient),
            Argument::Array(&losses),
            Argument::Array(&cosines),
            Argument::I32(width as i32),
            Argument::F64(shortest),
            Argument::F64(square),
            Argument::F64(slope),
            Argument::F64(f64::from(weight) / rows as f64),
        ],
    })?;
    machine.launch(&Launch {
        module: MODULE,
        kernel: "cosine_means",
        grid: [2, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments: &[
            Argument::Array(&losses),
            Argument::Array(&cosines),
            Argument::Array(&found.loss),
            Argument::Array(&found.cosine),
            Argument::I32(rows as i32),
        ],
    })?;
    Ok(found)
}
