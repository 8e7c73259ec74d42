//! Winograd's F(4x4, 3x3) for 3x3 kernels of stride 1: 36 products instead of 144 for 4x4 places.
//!
//! A block of tiles, small enough for the second-level cache, is transformed to 36 positions; at
//! each position the block is one matrix product (tiles, channels) x (channels, panel) by the same
//! register tiles as the direct path; the products are transformed back into places.
//! The gradient by the input is the same with the kernel turned round; the one by the weights is in
//! `grad_weight`.

mod grad_weight;
mod grid;
mod transform;

use rayon::prelude::*;

pub(super) use self::grad_weight::add as add_grad_weight;
pub(super) use self::transform::{
    GROUPS, InputTile, Tile, gradient, input, output, weight, weight_gradient,
};

use self::grid::Grid;
use self::transform::{POSITIONS, SIDE};
use super::gather::{Gather, Run};
use super::pack::Panel;
use super::tiles::{Places, Tiles};
use super::{ConvShape, TASKS, Target, even_parts, odd_lines};
use crate::Buffer;

/// Floats of a block's transforms, at most where there are enough tiles: they share a second-level
/// cache of 1 MiB with the weights that stream by.
const BLOCK: usize = 192 * 1024;
/// Tiles that one task transforms, where that is all it does.
const TRANSFORMED: usize = 32;
/// Fewest channels, of the input and of the output, that pay for the transforms; twice as many for a
/// gradient by the weights, which transforms more.
const CHANNELS: usize = 16;

/// Whether the gradient by the weights of `shape` is faster this way.
pub(super) fn suits_grad_weight(shape: &ConvShape) -> bool {
    suits(shape) && shape.c_in.min(shape.c_out) >= 2 * CHANNELS
}

/// Whether the other passes of `shape` are faster this way. Depends on the shape alone, so that all levels agree.
pub(super) fn suits(shape: &ConvShape) -> bool {
    let plain = (shape.kernel, shape.stride, shape.dilation, shape.groups) == (3, 1, 1, 1);
    if !plain || shape.c_in.min(shape.c_out) < CHANNELS {
        return false;
    }
    // A map of 2x2 places would fill a quarter of its tile.
    let (h, w) = (shape.out_h(), shape.out_w());
    let products = h.div_ceil(transform::STEP) * w.div_ceil(transform::STEP) * POSITIONS;
    products * 3 < h * w * 9 * 2
}

/// Whether the transformed weights of a pass are worth keeping: not where there are so few tiles that making and reading them would cost as much as the products. Then each
/// panel's are made where they are used.
pub(super) fn keeps_weights(gather: &Gather) -> bool {
    Grid::new(gather, 1).count > gather.to_channels
}

/// Transforms weights packed for the direct path, (panels, 9 taps, channels, width), to
/// (panels, 36 positions, channels, width).
pub(super) fn transform_weights(
    tiles: &Tiles,
    channels: usize,
    panels: &[Panel],
    packed: &[f32],
) -> Buffer {
    let widest = channels * tiles.width();
    let mut transformed = Buffer::scratch(panels.len() * POSITIONS * widest);
    transformed
        .par_chunks_mut(POSITIONS * widest)
        .zip(packed.par_chunks(9 * widest))
        .zip(panels)
        .for_each(|((to, from), panel)| transform_panel(tiles, channels, panel, from, to));
    transformed
}

/// One panel of [`transform_weights`].
fn transform_panel(tiles: &Tiles, channels: usize, panel: &Panel, from: &[f32], to: &mut [f32]) {
    let tap = channels * panel.width(tiles.lanes);
    let tile = Tile {
        from: from[..9 * tap].as_ptr(),
        row: 3 * tap,
        column: tap,
        vectors: channels * panel.vectors,
        to: to[..POSITIONS * tap].as_mut_ptr(),
        position: tap,
    };
    // SAFETY: `from` has 9 taps and `to` 36 positions of `tap` floats, which are
    // channels * vectors registers.
    unsafe { (tiles.winograd.weight)(&tile) };
}

/// Writes the convolution of `source` with the transformed `weights` to `target`, for all panels.
pub(super) fn multiply(
    tiles: &Tiles,
    gather: &Gather,
    panels: &[Panel],
    weights: &[f32],
    source: &[f32],
    target: &mut [f32],
) {
    let grid = Grid::new(gather, tiles.lanes);
    let most = BLOCK / (POSITIONS * (grid.pitch + tiles.width()));
    // Whole register tiles of rows; fewer where there would not be enough blocks.
    let size = (most / tiles.rows * tiles.rows)
        .min(grid.count.div_ceil(TASKS))
        .max(tiles.rows);
    let blocks: Vec<_> = even_parts(grid.count, size).collect();
    // Few blocks: tasks share the panels of a block, and each transforms the block again.
    let parts = TASKS
        .div_ceil(blocks.len())
        .min(panels.len().div_ceil(2))
        .max(1);
    let target = Target::new(target);
    (0..blocks.len() * parts)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            let (block, part) = (blocks[task / parts].clone(), task % parts);
            let mut inputs = Inputs::new(&grid, block.clone());
            inputs.transform(tiles, &grid, source);
            for index in panels.len() * part / parts..panels.len() * (part + 1) / parts {
                let size = POSITIONS * gather.channels() * tiles.width();
                let weights = &weights[index * size..][..size];
                inputs.multiply(tiles, &grid, &panels[index], weights, block.clone(), target);
            }
        });
}

/// As [`multiply`], from weights `packed` for the direct path: all tiles are transformed, then each
/// task transforms the weights of a panel and multiplies all tiles with them.
pub(super) fn multiply_few(
    tiles: &Tiles,
    gather: &Gather,
    panels: &[Panel],
    packed: &[f32],
    source: &[f32],
    target: &mut [f32],
) {
    let grid = Grid::new(gather, tiles.lanes);
    let channels = gather.channels();
    let mut inputs = Inputs::new(&grid, 0..grid.count);
    inputs.par_transform(tiles, &grid, source);
    let most = (BLOCK / (POSITIONS * 2 * tiles.width())).max(tiles.rows);
    let widest = channels * tiles.width();
    let target = Target::new(target);
    panels
        .par_iter()
        .enumerate()
        .with_max_len(1)
        .for_each(|(index, panel)| {
            let mut weights = Buffer::scratch(POSITIONS * widest);
            let packed = &packed[index * 9 * widest..][..9 * widest];
            transform_panel(tiles, channels, panel, packed, &mut weights);
            for block in even_parts(grid.count, most) {
                inputs.multiply(tiles, &grid, panel, &weights, block, target);
            }
        });
}

/// Tiles of the input, transformed: (36, tiles, pitch), the positions `position` apart.
struct Inputs {
    tiles: std::ops::Range<usize>,
    values: Buffer,
    position: usize,
}

impl Inputs {
    fn new(grid: &Grid<'_>, tiles: std::ops::Range<usize>) -> Self {
        let position = odd_lines(tiles.len() * grid.pitch);
        Self {
            tiles,
            values: Buffer::scratch(POSITIONS * position),
            position,
        }
    }

    fn transform(&mut self, tiles: &Tiles, grid: &Grid<'_>, source: &[f32]) {
        let all = self.tiles.clone();
        let values = Target::new(&mut self.values);
        transform(
            tiles,
            grid,
            source,
            (all.clone(), all),
            self.position,
            values,
        );
    }

    fn par_transform(&mut self, tiles: &Tiles, grid: &Grid<'_>, source: &[f32]) {
        let all = self.tiles.clone();
        let values = Target::new(&mut self.values);
        let parts: Vec<_> = even_parts(all.len(), TRANSFORMED).collect();
        parts.into_par_iter().with_max_len(1).for_each(|part| {
            let part = all.start + part.start..all.start + part.end;
            transform(
                tiles,
                grid,
                source,
                (all.clone(), part),
                self.position,
                values,
            );
        });
    }

    /// Multiplies the tiles of `block` with one panel's `weights` (36, channels, width) and writes
    /// their places.
    fn multiply(
        &self,
        tiles: &Tiles,
        grid: &Grid<'_>,
        panel: &Panel,
        weights: &[f32],
        block: std::ops::Range<usize>,
        target: Target<'_>,
    ) {
        let (width, channels) = (panel.width(tiles.lanes), grid.channels);
        let (count, first) = (block.len(), block.start - self.tiles.start);
        let position = odd_lines(count * width);
        let mut products = Buffer::scratch(POSITIONS * position);
        let runs = [Run {
            offset: 0,
            len: channels,
            row: 0,
        }];
        let from: Vec<usize> = (0..count).map(|i| i * grid.pitch).collect();
        let to: Vec<usize> = (0..count).map(|i| i * width).collect();
        let whole = Panel {
            columns: width,
            ..*panel
        };
        for p in 0..POSITIONS {
            let values = &self.values[p * self.position + first * grid.pitch..];
            let values = &values[..count * grid.pitch];
            let weights = &weights[p * channels * width..][..channels * width];
            let products = products[p * position..][..count * width].as_mut_ptr();
            for rows in even_parts(count, tiles.rows) {
                let places = Places {
                    from: &from[rows.clone()],
                    to: &to[rows],
                };
                // SAFETY: each tile has `pitch` >= channels values, `weights` a row for each, and
                // `products` `width` floats for each tile.
                unsafe { tiles.gather(&whole, values, places, &runs, weights, products, None) };
            }
        }
        for (i, index) in block.enumerate() {
            let from = products[i * width..].as_ptr();
            // SAFETY: `from` has the 36 positions of tile i, `position` apart, `width` floats each.
            // No other task has this block and panel, and no two tiles share a place.
            unsafe { grid.output(tiles, index, panel, from, position, target) };
        }
    }
}

/// Transforms the tiles of `part` to their places among `all` in `values`.
fn transform(
    tiles: &Tiles,
    grid: &Grid<'_>,
    source: &[f32],
    (all, part): (std::ops::Range<usize>, std::ops::Range<usize>),
    position: usize,
    values: Target<'_>,
) {
    let mut spare = grid.spare();
    for index in part {
        let mut tile = grid.input(index, source, &mut spare);
        let first = (index - all.start) * grid.pitch;
        tile.to = values.at(first, (POSITIONS - 1) * position + grid.pitch);
        tile.position = position;
        for (group, input) in tiles.winograd.input.iter().enumerate() {
            // SAFETY: `grid.input` gives 6x6 places of `vectors` registers; the positions of this
            // tile are `pitch` floats from `first` of each of the 36, and nobody else has the tile.
            unsafe { input(&tile) };
            tile.to = tile.to.wrapping_add(GROUPS[group].len() * SIDE * position);
        }
    }
}
