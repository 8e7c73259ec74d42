//! A border of zeros around maps, for convolutions whose zeros are not the same on each side.

use super::columns::{Tiling, counted};
use super::rows::Rows;
use crate::source::PAD;
use crate::{Argument, Array, Error, Machine, Module, Result};

/// Maps (N, H, W, C), and the places of zeros around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Border {
    /// (N, H, W, C), without the border.
    pub inner: [usize; 4],
    /// Places above.
    pub top: usize,
    /// Places to the left.
    pub left: usize,
    /// Places below.
    pub bottom: usize,
    /// Places to the right.
    pub right: usize,
}

impl Border {
    /// (N, H + top + bottom, W + left + right, C).
    #[must_use]
    pub fn outer(&self) -> [usize; 4] {
        let [n, h, w, c] = self.inner;
        [n, h + self.top + self.bottom, w + self.left + self.right, c]
    }
}

/// `x` with its border.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn pad(machine: &dyn Machine, x: &Array, border: &Border) -> Result<Array> {
    let start = [border.top, border.left].map(|zeros| zeros as i32);
    shift(machine, "pad", x, [border.inner, border.outer()], start)
}

/// `x`, that has a border, without it: the gradient of [`pad`].
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn crop(machine: &dyn Machine, x: &Array, border: &Border) -> Result<Array> {
    let start = [border.top, border.left].map(|zeros| -(zeros as i32));
    shift(machine, "crop", x, [border.outer(), border.inner], start)
}

fn shift(
    machine: &dyn Machine,
    op: &'static str,
    x: &Array,
    [from, to]: [[usize; 4]; 2],
    [top, left]: [i32; 2],
) -> Result<Array> {
    let module = Module {
        file: &PAD,
        real: x.real(op, "x")?,
    };
    let len = |shape: [usize; 4]| -> usize { shape.iter().product() };
    x.expect(op, "x", x.dtype(), len(from))?;
    let [n, h, w, c] = to;
    if c == 0 {
        return Err(Error::Shape {
            op,
            what: "channels",
            expected: "1 or more".into(),
            found: "0".into(),
        });
    }
    let y = Array::new(machine, x.dtype(), len(to))?;
    let rows = Rows::new(counted(op, "places", &[n, h, w])?, c);
    let operands = [Argument::Array(x), Argument::Array(&y)];
    let sides = [from[1], from[2], h, w].map(|side| side as i32);
    let sides = [sides[0], sides[1], sides[2], sides[3], top, left];
    Tiling::each(rows, module).launch(machine, module, ["pad", "pad_any"], &operands, &sides)?;
    Ok(y)
}
