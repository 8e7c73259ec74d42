//! The gradient by the weights, as the adjoint of the forward pass: transformed inputs times
//! transformed gradients of the output, summed over all tiles at each position.

use rayon::prelude::*;

use super::TRANSFORMED;
use super::grid::Grid;
use super::transform::{GROUPS, SIDE, STEP, Tile};
use crate::Buffer;
use crate::kernels::conv::gather::Gather;
use crate::kernels::conv::pack::Panel;
use crate::kernels::conv::tiles::Tiles;
use crate::kernels::conv::{TASKS, Target, even_parts, odd_lines};

/// Floats of the transforms that are kept at once: 8 MiB of a third-level cache.
const KEPT: usize = 2 * 1024 * 1024;
/// Tiles that are summed before the next channels: their gradients fill a first-level cache.
const SUMMED: usize = 256;

/// The transforms of some tiles, for the positions of one group of rows.
struct Kept {
    /// (positions, tiles, pitch)
    inputs: Buffer,
    input_position: usize,
    /// (positions, panels, tiles, width)
    gradients: Buffer,
    gradient_position: usize,
    count: usize,
}

/// `sums` (panels, 9 taps x channels, width) += the products of `x` and `dy`.
///
/// A panel's sums are `9 * channels * tiles.width()` floats apart.
pub(in crate::kernels::conv) fn add(
    tiles: &Tiles,
    gather: &Gather,
    panels: &[Panel],
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let grid = Grid::new(gather, tiles.lanes);
    let widest = panels.len() * tiles.width();
    let most = (KEPT / (2 * SIDE * (grid.pitch + widest))).max(4 * TRANSFORMED);
    for block in even_parts(grid.count, most) {
        let input_position = odd_lines(block.len() * grid.pitch);
        let gradient_position = odd_lines(block.len() * widest);
        let mut kept = Kept {
            inputs: Buffer::scratch(2 * SIDE * input_position),
            input_position,
            gradients: Buffer::scratch(2 * SIDE * gradient_position),
            gradient_position,
            count: block.len(),
        };
        for group in 0..GROUPS.len() {
            kept.transform(tiles, &grid, panels, (block.start, group), x, dy);
            kept.multiply(tiles, &grid, panels, group, sums);
        }
    }
}

impl Kept {
    /// Transforms tiles from `first` on, for the rows of `group`.
    fn transform(
        &mut self,
        tiles: &Tiles,
        grid: &Grid<'_>,
        panels: &[Panel],
        (first, group): (usize, usize),
        x: &[f32],
        dy: &[f32],
    ) {
        let channels = panels.last().map_or(0, |panel| panel.first + panel.columns);
        let inputs = Target::new(&mut self.inputs);
        let gradients = Target::new(&mut self.gradients);
        let (input_position, gradient_position) = (self.input_position, self.gradient_position);
        let count = self.count;
        let rows = GROUPS[group].len();
        (0..count.div_ceil(TRANSFORMED))
            .into_par_iter()
            .with_max_len(1)
            .for_each(|task| {
                let mut spare = grid.spare();
                let mut dy_border =
                    Buffer::scratch(STEP * STEP * channels.div_ceil(tiles.lanes) * tiles.lanes);
                for i in task * TRANSFORMED..count.min((task + 1) * TRANSFORMED) {
                    let mut tile = grid.input(first + i, x, &mut spare);
                    tile.position = input_position;
                    let end = (rows * SIDE - 1) * input_position + grid.pitch;
                    tile.to = inputs.at(i * grid.pitch, end);
                    // SAFETY: `grid.input` gives 6x6 places; tile i's positions are `pitch` floats
                    // from i * pitch of each, and no other task has this tile.
                    unsafe { (tiles.winograd.input[group])(&tile) };

                    let whole = grid.gradient(first + i, channels, dy, &mut dy_border);
                    for (p, panel) in panels.iter().enumerate() {
                        let width = panel.width(tiles.lanes);
                        let to = p * tiles.width() * count + i * width;
                        let tile = Tile {
                            from: whole.from.wrapping_add(panel.first),
                            vectors: panel.vectors,
                            to: gradients.at(to, (rows * SIDE - 1) * gradient_position + width),
                            position: gradient_position,
                            ..whole
                        };
                        // SAFETY: as above, for 4x4 places and the panel's channels of them.
                        unsafe { (tiles.winograd.gradient[group])(&tile) };
                    }
                }
            });
    }

    /// Adds the products of the kept tiles to `sums`.
    fn multiply(
        &self,
        tiles: &Tiles,
        grid: &Grid<'_>,
        panels: &[Panel],
        group: usize,
        sums: &mut [f32],
    ) {
        let size = 9 * grid.channels * tiles.width();
        let positions = GROUPS[group].len() * SIDE;
        let parts = TASKS
            .div_ceil(panels.len())
            .min(grid.channels.div_ceil(2 * tiles.rows));
        let ranges: Vec<_> = even_parts(grid.channels, grid.channels.div_ceil(parts)).collect();
        let sums = Target::new(sums);
        let from: Vec<usize> = (0..self.count).map(|i| i * grid.pitch).collect();
        (0..panels.len() * ranges.len())
            .into_par_iter()
            .with_max_len(1)
            .for_each(|task| {
                let index = task / ranges.len();
                let (panel, range) = (&panels[index], ranges[task % ranges.len()].clone());
                let width = panel.width(tiles.lanes);
                let position = odd_lines(range.len() * width);
                let mut products = Buffer::zeros(positions * position);
                for p in 0..positions {
                    let inputs = &self.inputs[p * self.input_position..];
                    let inputs = &inputs[..self.count * grid.pitch];
                    let gradients = &self.gradients[p * self.gradient_position..];
                    let gradients = &gradients[index * tiles.width() * self.count..];
                    let products = &mut products[p * position..];
                    for start in (0..self.count).step_by(SUMMED) {
                        let end = self.count.min(start + SUMMED);
                        let gradients = &gradients[start * width..end * width];
                        for rows in even_parts(range.len(), tiles.rows) {
                            let products = &mut products[rows.start * width..rows.end * width];
                            let first = range.start + rows.start;
                            let from = &from[start..end];
                            // SAFETY: each tile has `pitch` >= channels inputs, and `gradients` a
                            // row for each.
                            unsafe {
                                tiles.outer(panel, inputs, from, first, gradients, products);
                            }
                        }
                    }
                }
                let tap = grid.channels * width;
                let first = index * size + range.start * width;
                let tile = Tile {
                    from: products.as_ptr(),
                    row: 3 * tap,
                    column: tap,
                    vectors: range.len() * panel.vectors,
                    to: sums.at(first, 8 * tap + range.len() * width),
                    position,
                };
                // SAFETY: `products` has the group's positions of range x width floats, and the
                // panel's sums 9 taps of them from the range's first on, which no other task has.
                unsafe { (tiles.winograd.weight_gradient[group])(&tile) };
            });
    }
}
