//! Rows of channels, and how threads are laid over them where each is worked on by itself: what
//! `kernels/rows.cuh` expects.

use crate::{Argument, Array, DType, File, Launch, Machine, Module, Real, Result};

/// Threads of a block.
pub(super) const THREADS: usize = 256;
/// Threads of a warp.
pub(super) const WARP: usize = 32;
/// Warps of a block.
pub(super) const WARPS: usize = THREADS / WARP;

/// Values that a warp can hold in registers.
const HELD: usize = 32 * WARP;

/// Rows of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Runs of rows with statistics of their own; what knows no statistics over rows takes them as one.
    pub groups: usize,
    /// Rows of a group.
    pub rows: usize,
    /// Values of a row.
    pub channels: usize,
}

impl Rows {
    /// One group of `rows` of `channels`.
    #[must_use]
    pub const fn new(rows: usize, channels: usize) -> Self {
        Self {
            groups: 1,
            rows,
            channels,
        }
    }

    /// All rows as one group.
    pub(super) fn in_one_group(self) -> Self {
        Self::new(self.groups * self.rows, self.channels)
    }

    pub(super) fn len(self) -> usize {
        self.groups * self.rows * self.channels
    }

    /// Channels of all groups.
    pub(super) fn of_groups(self) -> usize {
        self.groups * self.channels
    }

    /// Whether the channels are whole packs of 16 bytes.
    pub(super) fn packed(self, real: Real) -> bool {
        self.channels.is_multiple_of(16 / DType::from(real).bytes())
    }

    /// Whether a warp can hold a row.
    pub(super) fn short(self) -> bool {
        self.channels <= HELD
    }

    /// Blocks and threads for a warp a row, of one group.
    pub(super) fn warps(self) -> ([u32; 3], [u32; 3]) {
        (
            [self.rows.div_ceil(WARPS) as u32, 1, 1],
            [THREADS as u32, 1, 1],
        )
    }

    /// Blocks and threads for a block a row, of one group: some values for each thread.
    pub(super) fn blocks(self) -> ([u32; 3], [u32; 3]) {
        let threads = (self.channels / 8).clamp(1, THREADS).next_multiple_of(WARP);
        ([self.rows as u32, 1, 1], [threads as u32, 1, 1])
    }
}

/// A kernel of rows to rows, of which there are two: for rows that a warp holds, for any.
pub(super) struct RowKernel {
    pub(super) file: &'static File,
    pub(super) op: &'static str,
    /// Its name for short rows, and for any.
    pub(super) names: [&'static str; 2],
    /// Whether short rows must fill packs.
    pub(super) packed: bool,
}

impl RowKernel {
    /// out = kernel(inputs), all of one type; `eps` is given where the kernel takes one.
    pub(super) fn run(
        &self,
        machine: &dyn Machine,
        inputs: &[(&'static str, &Array)],
        rows: Rows,
        eps: Option<f64>,
    ) -> Result<Array> {
        let rows = rows.in_one_group();
        let (what, first) = inputs[0];
        let (real, dtype) = (first.real(self.op, what)?, first.dtype());
        for (what, array) in inputs {
            array.expect(self.op, what, dtype, rows.len())?;
        }
        let out = Array::new(machine, dtype, rows.len())?;
        if rows.len() == 0 {
            return Ok(out);
        }
        let held = rows.short() && (!self.packed || rows.packed(real));
        let (grid, block) = if held { rows.warps() } else { rows.blocks() };
        let mut arguments: Vec<_> = inputs
            .iter()
            .map(|(_, array)| Argument::Array(array))
            .collect();
        arguments.extend([
            Argument::Array(&out),
            Argument::I64(rows.rows as i64),
            Argument::I32(rows.channels as i32),
        ]);
        arguments.extend(eps.map(Argument::F64));
        machine.launch(&Launch {
            module: Module {
                file: self.file,
                real,
            },
            kernel: self.names[usize::from(!held)],
            grid,
            block,
            shared: 0,
            arguments: &arguments,
        })?;
        Ok(out)
    }
}
