//! How threads are laid over rows of channels: what `kernels/columns.cuh` expects.

use super::rows::{Rows, THREADS};
use crate::{Argument, DType, Error, Launch, Machine, Module, Result};

/// Rows of a slab that one thread sums, at least: enough to hide what starting costs.
const ROWS_PER_SUM: usize = 16;
/// Slabs that are summed, at most: several blocks for each processor of a large GPU.
const SUMS: usize = 512;
/// As [`ROWS_PER_SUM`], where each row has a result of its own.
const ROWS_PER_THREAD: usize = 4;
/// As [`SUMS`], where each row has a result of its own.
const SLABS: usize = 8192;
/// Blocks of a kernel that walks values in no order, at most.
const BLOCKS: usize = 4096;

/// How threads are laid over the rows.
pub(super) struct Tiling {
    rows: Rows,
    vector: bool,
    columns: usize,
    tiles: usize,
    pub(super) slabs: usize,
    pub(super) slab: usize,
}

impl Tiling {
    /// For sums over rows: few slabs, each of which leaves a partial sum.
    pub(super) fn sums(rows: Rows, module: Module) -> Self {
        Self::new(rows, rows.channels, module, ROWS_PER_SUM, SUMS)
    }

    /// For a result in each row: many slabs.
    pub(super) fn each(rows: Rows, module: Module) -> Self {
        Self::new(rows, rows.channels, module, ROWS_PER_THREAD, SLABS)
    }

    /// As [`Tiling::sums`], for rows of several times `unit` channels, over whose ends no vector may reach.
    pub(super) fn sums_of_units(rows: Rows, unit: usize, module: Module) -> Self {
        Self::new(rows, unit, module, ROWS_PER_SUM, SUMS)
    }

    /// As [`Tiling::each`], for such rows.
    pub(super) fn each_of_units(rows: Rows, unit: usize, module: Module) -> Self {
        Self::new(rows, unit, module, ROWS_PER_THREAD, SLABS)
    }

    fn new(rows: Rows, unit: usize, module: Module, rows_per_thread: usize, most: usize) -> Self {
        let pack = pack(module);
        let vector = unit.is_multiple_of(pack);
        let vectors = rows.channels / if vector { pack } else { 1 };
        let tiles = vectors.div_ceil(THREADS).max(1);
        let columns = vectors.div_ceil(tiles).max(1);
        let lines = THREADS / columns;
        // Columns make blocks, too.
        let most = (8 * most / tiles).clamp(1, most);
        let slabs = rows.rows.div_ceil(lines * rows_per_thread).clamp(1, most);
        let slab = rows.rows.div_ceil(slabs).max(1);
        Self {
            rows,
            vector,
            columns,
            tiles,
            slabs: rows.rows.div_ceil(slab).max(1),
            slab,
        }
    }

    /// Starts the kernel for vectors, or the one for any number of channels. After `operands` they take
    /// rows, rows of a slab, channels, columns of a block, and `more`.
    pub(super) fn launch<'a>(
        &self,
        machine: &dyn Machine,
        module: Module,
        [kernel, any]: [&'static str; 2],
        operands: &[Argument<'a>],
        more: &[i32],
    ) -> Result<()> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        let mut arguments = operands.to_vec();
        arguments.extend([
            Argument::I64(self.rows.rows as i64),
            Argument::I64(self.slab as i64),
            Argument::I32(self.rows.channels as i32),
            Argument::I32(self.columns as i32),
        ]);
        arguments.extend(more.iter().copied().map(Argument::I32));
        machine.launch(&Launch {
            module,
            kernel: if self.vector { kernel } else { any },
            grid: [
                self.tiles as u32,
                self.slabs as u32,
                self.rows.groups as u32,
            ],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &arguments,
        })
    }
}

/// Starts a kernel that walks `len` values 16 bytes at a time. After `operands` it takes their number.
pub(super) fn launch_flat(
    machine: &dyn Machine,
    module: Module,
    kernel: &'static str,
    operands: &[Argument<'_>],
    len: usize,
) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    let blocks = len.div_ceil(pack(module)).div_ceil(THREADS);
    let mut arguments = operands.to_vec();
    arguments.push(Argument::I64(len as i64));
    machine.launch(&Launch {
        module,
        kernel,
        grid: [blocks.min(BLOCKS) as u32, 1, 1],
        block: [THREADS as u32, 1, 1],
        shared: 0,
        arguments: &arguments,
    })
}

/// Values of 16 bytes.
pub(super) fn pack(module: Module) -> usize {
    16 / DType::from(module.real).bytes()
}

/// The product of `sides`, if kernels can count it in 31 bits.
///
/// # Errors
/// A larger one.
pub(super) fn counted(op: &'static str, what: &'static str, sides: &[usize]) -> Result<usize> {
    let product = sides
        .iter()
        .try_fold(1usize, |product, side| product.checked_mul(*side));
    match product {
        Some(product) if product <= i32::MAX as usize => Ok(product),
        _ => Err(Error::Shape {
            op,
            what,
            expected: format!("a product of at most {}", i32::MAX),
            found: format!("{sides:?}"),
        }),
    }
}
