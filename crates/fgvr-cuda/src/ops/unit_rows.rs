//! Rows of length one for a contrast, and the way back to what they were made of.

use super::Rows;
use super::rows::{THREADS, WARP};
use crate::source::UNIT_ROWS;
use crate::{Argument, Array, DType, Launch, Machine, Module, Real, Result};

/// Rows divided by their length.
pub struct Unit {
    /// (rows, channels) of f32.
    pub rows: Array,
    /// One over the length of each row, 0 where it was too short.
    pub by_length: Array,
    shape: Rows,
    real: Real,
}

/// The rows of `z`, f32 or bf16, divided by their length in f32; those no longer than `shortest` become zero.
///
/// # Errors
/// Another number of values; what the machine says.
pub fn unit_rows(machine: &dyn Machine, z: &Array, shape: Rows, shortest: f64) -> Result<Unit> {
    const OP: &str = "unit rows";
    let shape = shape.in_one_group();
    z.expect(OP, "z", z.dtype(), shape.len())?;
    let unit = Unit {
        rows: Array::new(machine, DType::F32, shape.len())?,
        by_length: Array::new(machine, DType::F32, shape.rows)?,
        shape,
        real: z.real(OP, "z")?,
    };
    let arguments = [
        Argument::Array(z),
        Argument::Array(&unit.rows),
        Argument::Array(&unit.by_length),
        Argument::I32(shape.channels as i32),
        Argument::F64(shortest),
    ];
    launch(machine, unit.real, "unit_rows", shape, &arguments)?;
    Ok(unit)
}

impl Unit {
    /// The gradient at z, in its type, of what has the gradient `of_rows` (rows, channels; none is zero) plus
    /// `shares` (rows) times `keys` (rows, channels), all of f32, at the rows of length one.
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says.
    pub fn gradient(
        &self,
        machine: &dyn Machine,
        of_rows: Option<&Array>,
        [shares, keys]: [&Array; 2],
    ) -> Result<Array> {
        const OP: &str = "unit rows gradient";
        let len = self.shape.len();
        if let Some(of_rows) = of_rows {
            of_rows.expect(OP, "gradient", DType::F32, len)?;
        }
        shares.expect(OP, "shares", DType::F32, self.shape.rows)?;
        keys.expect(OP, "keys", DType::F32, len)?;
        let dz = Array::new(machine, self.real.into(), len)?;
        let arguments = [
            Argument::Array(&self.rows),
            Argument::Array(&self.by_length),
            Argument::optional(of_rows),
            Argument::Array(shares),
            Argument::Array(keys),
            Argument::Array(&dz),
            Argument::I32(self.shape.channels as i32),
        ];
        launch(machine, self.real, "unit_rows_grad", self.shape, &arguments)?;
        Ok(dz)
    }
}

/// The product of each row of `a` with that of `b`, f32: (rows) of f32.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn row_products(machine: &dyn Machine, a: &Array, b: &Array, shape: Rows) -> Result<Array> {
    const OP: &str = "row products";
    let shape = shape.in_one_group();
    a.expect(OP, "a", DType::F32, shape.len())?;
    b.expect(OP, "b", DType::F32, shape.len())?;
    let products = Array::new(machine, DType::F32, shape.rows)?;
    let arguments = [
        Argument::Array(a),
        Argument::Array(b),
        Argument::Array(&products),
        Argument::I32(shape.channels as i32),
    ];
    launch(machine, Real::F32, "row_products", shape, &arguments)?;
    Ok(products)
}

/// A block a row, of as many threads as it has values.
fn launch(
    machine: &dyn Machine,
    real: Real,
    kernel: &'static str,
    shape: Rows,
    arguments: &[Argument<'_>],
) -> Result<()> {
    if shape.rows == 0 {
        return Ok(());
    }
    let threads = shape.channels.next_multiple_of(WARP).clamp(WARP, THREADS);
    machine.launch(&Launch {
        module: Module {
            file: &UNIT_ROWS,
            real,
        },
        kernel,
        grid: [shape.rows as u32, 1, 1],
        block: [threads as u32, 1, 1],
        shared: 0,
        arguments,
    })
}
