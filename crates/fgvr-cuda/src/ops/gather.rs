//! Rows in another order.

use super::columns::{counted, pack};
use super::rows::{Rows, THREADS, WARP};
use crate::source::GATHER;
use crate::{Argument, Array, DType, Launch, Machine, Module, Result};

/// Vectors of a thread; must be `EACH` of `kernels/gather.cu`.
const EACH: usize = 8;

/// Row i of the result is row index\[i\] of `x` (rows, channels), of f32 or bf16. A row may be asked for several times
/// or not at all, and is an image as well as a vector: `channels` are its values. An index beyond the rows
/// gives a row of NaN, since indices on the machine cannot be checked without waiting for them.
///
/// # Errors
/// Operands of other lengths or types, rows of more values than 31 bits count; what the machine says.
pub fn gather_rows(machine: &dyn Machine, x: &Array, index: &Array, rows: Rows) -> Result<Array> {
    const OP: &str = "gather rows";
    let rows = rows.in_one_group();
    let real = x.real(OP, "x")?;
    x.expect(OP, "x", x.dtype(), rows.len())?;
    index.expect(OP, "index", DType::U32, index.len())?;
    counted(OP, "rows", &[rows.rows])?;
    let y = Array::new(machine, x.dtype(), index.len() * rows.channels)?;
    if y.is_empty() {
        return Ok(y);
    }
    let module = Module {
        file: &GATHER,
        real,
    };
    let packed = rows.packed(real);
    let vectors = rows.channels / if packed { pack(module) } else { 1 };
    counted(OP, "values of a row", &[vectors, EACH])?;
    let threads = vectors.div_ceil(EACH).next_multiple_of(WARP).min(THREADS);
    let tiles = vectors.div_ceil(threads * EACH);
    let blocks = counted(OP, "blocks", &[index.len(), tiles])?;
    machine.launch(&Launch {
        module,
        kernel: match packed {
            true => "gather_rows",
            false => "gather_rows_any",
        },
        grid: [blocks as u32, 1, 1],
        block: [threads as u32, 1, 1],
        shared: 0,
        arguments: &[
            Argument::Array(x),
            Argument::Array(index),
            Argument::Array(&y),
            Argument::I32(rows.rows as i32),
            Argument::I32(vectors as i32),
            Argument::I32(tiles as i32),
        ],
    })?;
    Ok(y)
}
