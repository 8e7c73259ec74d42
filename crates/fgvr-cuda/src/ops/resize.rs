//! Nearest and bilinear resizing of channels-last maps, with their gradients.

use super::columns::{Tiling, counted};
use super::rows::Rows;
use crate::source::RESIZE;
use crate::{Argument, Array, Error, Machine, Module, Result};

/// A resizing of (N, H, W, C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// (N, H, W, C) of the input.
    pub input: [usize; 4],
    /// (H, W) of the output.
    pub to: (usize, usize),
}

impl Resize {
    /// Input and output as rows of places.
    fn rows(&self, op: &'static str) -> Result<(Rows, Rows)> {
        let ([n, h, w, c], (oh, ow)) = (self.input, self.to);
        if [h, w, oh, ow].contains(&0) {
            return Err(Error::Shape {
                op,
                what: "sides",
                expected: "1 or more".into(),
                found: format!("{self:?}"),
            });
        }
        // Positions are counted in 31 bits.
        for (from, to) in [(h, oh), (w, ow)] {
            counted(op, "sides", &[from.saturating_mul(2).saturating_add(1), to])?;
        }
        let rows = |h: usize, w: usize| -> Result<Rows> {
            Ok(Rows::new(counted(op, "places", &[n, h, w])?, c))
        };
        Ok((rows(h, w)?, rows(oh, ow)?))
    }

    fn sides(&self) -> [i32; 4] {
        let ([_, h, w, _], (oh, ow)) = (self.input, self.to);
        [h, w, oh, ow].map(|side| side as i32)
    }
}

/// Starts `kernels` from `from` (as many rows as `rows[0]`), for each row of the result (`rows[1]`).
fn run(
    machine: &dyn Machine,
    op: &'static str,
    from: &Array,
    rows: [Rows; 2],
    kernels: [&'static str; 2],
    more: &[i32],
) -> Result<Array> {
    let module = Module {
        file: &RESIZE,
        real: from.real(op, "map")?,
    };
    from.expect(op, "map", from.dtype(), rows[0].len())?;
    let to = Array::new(machine, from.dtype(), rows[1].len())?;
    let operands = [Argument::Array(from), Argument::Array(&to)];
    Tiling::each(rows[1], module).launch(machine, module, kernels, &operands, more)?;
    Ok(to)
}

/// `x` resized bilinearly: half-pixel centres, clamped at the border, without antialiasing.
///
/// # Errors
/// Operands of other lengths or types, a side of zero; what the machine says.
pub fn bilinear(machine: &dyn Machine, x: &Array, resize: &Resize) -> Result<Array> {
    const OP: &str = "bilinear";
    let (input, output) = resize.rows(OP)?;
    let kernels = ["bilinear", "bilinear_any"];
    run(machine, OP, x, [input, output], kernels, &resize.sides())
}

/// The gradient of [`bilinear`].
///
/// # Errors
/// Operands of other lengths or types, a side of zero; what the machine says.
pub fn bilinear_grad(machine: &dyn Machine, dy: &Array, resize: &Resize) -> Result<Array> {
    const OP: &str = "bilinear gradient";
    let (input, output) = resize.rows(OP)?;
    let kernels = ["bilinear_grad", "bilinear_grad_any"];
    run(machine, OP, dy, [output, input], kernels, &resize.sides())
}

/// Each value of `x` (N, H, W, C) repeated `factor` times along both sides.
///
/// # Errors
/// Operands of other lengths or types, a factor or side of zero; what the machine says.
pub fn nearest(
    machine: &dyn Machine,
    x: &Array,
    input: [usize; 4],
    factor: usize,
) -> Result<Array> {
    const OP: &str = "nearest";
    let (from, to) = repeated(input, factor).rows(OP)?;
    let kernels = ["nearest", "nearest_any"];
    run(machine, OP, x, [from, to], kernels, &more(input, factor))
}

/// The gradient of [`nearest`]: sums of factor x factor places. `input` is the shape of its result.
///
/// # Errors
/// Operands of other lengths or types, a factor or side of zero; what the machine says.
pub fn nearest_grad(
    machine: &dyn Machine,
    dy: &Array,
    input: [usize; 4],
    factor: usize,
) -> Result<Array> {
    const OP: &str = "nearest gradient";
    let (from, to) = repeated(input, factor).rows(OP)?;
    let kernels = ["nearest_grad", "nearest_grad_any"];
    run(machine, OP, dy, [to, from], kernels, &more(input, factor))
}

fn repeated(input: [usize; 4], factor: usize) -> Resize {
    let side = |side: usize| side.saturating_mul(factor);
    Resize {
        input,
        to: (side(input[1]), side(input[2])),
    }
}

fn more([_, h, w, _]: [usize; 4], factor: usize) -> [i32; 3] {
    [h, w, factor].map(|side| side as i32)
}
