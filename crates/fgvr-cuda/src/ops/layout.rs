//! Between the layout and type of what is outside (channels first, f32) and that of activations (channels
//! last, f32 or bf16).

use super::columns::{counted, launch_flat, pack};
use super::rows::THREADS;
use crate::source::LAYOUT;
use crate::{Argument, Array, DType, Launch, Machine, Module, Real, Result};

/// Matrices of at most so many rows or columns are taken whole in that direction; must fit `ROOM` of
/// `kernels/layout.cu`.
const FEW: usize = 64;
/// Values of a block of such a matrix.
const ROOM: usize = 4096;
/// Side of a tile of others.
const SIDE: usize = 64;

/// A number of matrices, each (rows, columns), that become (columns, rows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    /// How many.
    pub count: usize,
    /// Rows of each before.
    pub rows: usize,
    /// Columns of each before.
    pub columns: usize,
}

impl Matrices {
    /// The maps (N, C, H, W), as `count` = N matrices (C, H*W).
    #[must_use]
    pub fn of_maps([n, c, h, w]: [usize; 4]) -> Self {
        Self {
            count: n,
            rows: c,
            columns: h * w,
        }
    }

    /// A convolution's weight (O, I/groups, k, k), as O matrices (I/groups, k*k).
    #[must_use]
    pub fn of_weight([c_out, c_in, kernel]: [usize; 3]) -> Self {
        Self {
            count: c_out,
            rows: c_in,
            columns: kernel * kernel,
        }
    }

    fn reversed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            ..self
        }
    }

    fn len(self) -> usize {
        self.count * self.rows * self.columns
    }
}

/// Maps (N, C, H, W) or gradients of f32, channels last: (N, H, W, C) of `real`. Likewise a convolution's
/// weight (O, I/groups, k, k) to (O, k, k, I/groups).
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn to_channels_last(
    machine: &dyn Machine,
    x: &Array,
    shape: Matrices,
    real: Real,
) -> Result<Array> {
    const OP: &str = "to channels last";
    x.expect(OP, "x", DType::F32, shape.len())?;
    let y = Array::new(machine, real.into(), shape.len())?;
    let module = Module {
        file: &LAYOUT,
        real,
    };
    let kernels = Kernels {
        tiles: ["layout_tiles_in", "layout_tiles_in_any"],
        few_rows: ["layout_few_rows_in", "layout_few_rows_in_any"],
        few_columns: ["layout_few_columns_in", "layout_few_columns_in_any"],
        cast: "cast_in",
    };
    transpose(machine, module, &kernels, [x, &y], shape)?;
    Ok(y)
}

/// The reverse of [`to_channels_last`]: `x` (N, H, W, C) to (N, C, H, W) of f32, or the gradient of a
/// weight (O, k, k, I/groups) to (O, I/groups, k, k). `shape` is that of the result.
///
/// # Errors
/// Operands of other lengths or types; what the machine says.
pub fn to_channels_first(machine: &dyn Machine, x: &Array, shape: Matrices) -> Result<Array> {
    const OP: &str = "to channels first";
    let real = x.real(OP, "x")?;
    x.expect(OP, "x", x.dtype(), shape.len())?;
    let y = Array::new(machine, DType::F32, shape.len())?;
    let module = Module {
        file: &LAYOUT,
        real,
    };
    let kernels = Kernels {
        tiles: ["layout_tiles_out", "layout_tiles_out_any"],
        few_rows: ["layout_few_rows_out", "layout_few_rows_out_any"],
        few_columns: ["layout_few_columns_out", "layout_few_columns_out_any"],
        cast: "cast_out",
    };
    transpose(machine, module, &kernels, [x, &y], shape.reversed())?;
    Ok(y)
}

/// The kernels of one direction; of each pair, the first is for whole packs.
struct Kernels {
    tiles: [&'static str; 2],
    few_rows: [&'static str; 2],
    few_columns: [&'static str; 2],
    cast: &'static str,
}

fn transpose(
    machine: &dyn Machine,
    module: Module,
    kernels: &Kernels,
    [x, y]: [&Array; 2],
    shape: Matrices,
) -> Result<()> {
    const OP: &str = "transpose";
    let Matrices {
        count,
        rows,
        columns,
    } = shape;
    counted(OP, "rows and columns", &[rows, columns])?;
    let operands = [Argument::Array(x), Argument::Array(y)];
    if rows <= 1 || columns <= 1 {
        return launch_flat(machine, module, kernels.cast, &operands, shape.len());
    }
    if count == 0 {
        return Ok(());
    }
    // The larger of a pack of f32 and one of activations.
    let pack = pack(module);
    let ([kernel, any], vector, grid, sides) = if rows.min(columns) <= FEW {
        let (few, many) = (rows.min(columns), rows.max(columns));
        // Rows of odd length, as many as fit, in whole packs.
        let run = ROOM / (few | 1) / 8 * 8;
        let tiles = many.div_ceil(run);
        let kernel = match rows <= columns {
            true => kernels.few_rows,
            false => kernels.few_columns,
        };
        (
            kernel,
            many.is_multiple_of(pack),
            [tiles, 1],
            vec![run, tiles],
        )
    } else {
        let tiles = [columns.div_ceil(SIDE), rows.div_ceil(SIDE)];
        let vector = rows.is_multiple_of(pack) && columns.is_multiple_of(pack);
        (kernels.tiles, vector, tiles, vec![tiles[0]])
    };
    let blocks = counted(OP, "blocks", &[count, grid[0]])?;
    let mut arguments = operands.to_vec();
    let sides = [rows, columns].into_iter().chain(sides);
    arguments.extend(sides.map(|side| Argument::I32(side as i32)));
    machine.launch(&Launch {
        module,
        kernel: if vector { kernel } else { any },
        grid: [blocks as u32, grid[1] as u32, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments: &arguments,
    })
}

/// A copy of `x` as `dtype`: between f32 and activations, either way.
///
/// # Errors
/// Types of which neither is f32, or that are none of activations; what the machine says.
pub fn cast(machine: &dyn Machine, x: &Array, dtype: DType) -> Result<Array> {
    const OP: &str = "cast";
    let y = Array::new(machine, dtype, x.len())?;
    let (from, to) = (x.real(OP, "x")?, y.real(OP, "y")?);
    let (kernel, real) = match (from, to) {
        (Real::F32, real) => ("cast_in", real),
        (real, Real::F32) => ("cast_out", real),
        (Real::Bf16, Real::Bf16) => {
            return Err(crate::Error::Shape {
                op: OP,
                what: "types",
                expected: "f32 on one side".into(),
                found: "bf16 on both".into(),
            });
        }
    };
    let module = Module {
        file: &LAYOUT,
        real,
    };
    let operands = [Argument::Array(x), Argument::Array(&y)];
    launch_flat(machine, module, kernel, &operands, x.len())?;
    Ok(y)
}

/// Sets every element of `y` to `value`.
///
/// # Errors
/// An array of another type than f32 or bf16; what the machine says.
pub fn fill(machine: &dyn Machine, y: &Array, value: f32) -> Result<()> {
    let module = Module {
        file: &LAYOUT,
        real: y.real("fill", "y")?,
    };
    let operands = [Argument::Array(y), Argument::F32(value)];
    launch_flat(machine, module, "fill", &operands, y.len())
}
