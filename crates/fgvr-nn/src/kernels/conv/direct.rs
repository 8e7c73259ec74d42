//! Convolutions as they are defined: every place reads its runs.

use rayon::prelude::*;

use super::blocks::{Blocks, Window};
use super::epilogue::Epilogue;
use super::gather::{Gather, Run};
use super::pack::{self, Panel};
use super::tiles::{Ending, Places, Tiles};
use super::{TASKS, Target, even_parts};
use crate::Buffer;

/// Packed weights that stay in a first-level cache, in floats, beside a tile's places: 16 KiB.
const FEW: usize = 4 * 1024;

/// Writes what `gather` reads of `source` times the packed weights to its places of `target`, for
/// all panels of output channels, and does what `epilogue` says on the way.
pub(super) fn multiply(
    tiles: &Tiles,
    gather: &Gather,
    panels: &[Panel],
    packed: &[f32],
    source: &[f32],
    target: &mut [f32],
    epilogue: Option<&Epilogue<'_>>,
) {
    let blocks = Blocks::new(gather, TASKS);
    let biases = epilogue.map(|epilogue| pack::bias(panels, tiles.width(), epilogue.bias));
    let runs = gather.runs(&blocks);
    let depth = gather.depth();
    let width = tiles.width();
    let few = gather.groups == 1 && panels.len() * depth * width <= FEW;
    let target = Target::new(target);
    // Few blocks of many channels: tasks share the panels of a block.
    let parts = TASKS.div_ceil(blocks.count()).min(panels.len());
    (0..blocks.count() * parts)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            let (block, part) = (blocks.block(task / parts), task % parts);
            let mut window = Window::new(&blocks, source);
            let places = block.places(gather);
            let (from, to) = (&blocks.from[..places], &blocks.to[..places]);
            let base = gather.target_base(&block);
            let last = to.last().copied().unwrap_or(0);
            // Few weights stay in the first-level cache: then each place is written whole, not a panel
            // after the other.
            let together = if few { tiles.rows } else { places };
            for run in even_parts(places, together) {
                for index in panels.len() * part / parts..panels.len() * (part + 1) / parts {
                    let panel = &panels[index];
                    let window = window.of(gather, &block, panel.group);
                    let weights =
                        &packed[index * depth * width..][..depth * panel.width(tiles.lanes)];
                    let first = base + panel.first;
                    let target = target.at(first, last + panel.columns);
                    let ending = epilogue
                        .zip(biases.as_ref())
                        .map(|(epilogue, biases)| Ending {
                            bias: &biases[index * width..][..width],
                            residual: (epilogue.residual)
                                .map(|residual| residual[first..][..last + panel.columns].as_ptr()),
                            limits: epilogue.limits(),
                        });
                    let (from, to) = (&from[run.clone()], &to[run.clone()]);
                    for tile in even_parts(run.len(), tiles.rows) {
                        let places = Places {
                            from: &from[tile.clone()],
                            to: &to[tile],
                        };
                        // SAFETY: the window has what its block's places read, `weights` a row for each
                        // float of a place. Places are below the target's height and width, and
                        // `panel.first + panel.columns` is at most its channels, so all writes are in
                        // the target, and reads of a residual of its length in that. No other task has
                        // this block and panel, and no two blocks share a place.
                        unsafe {
                            tiles.gather(panel, window, places, &runs, weights, target, ending);
                        }
                    }
                }
            }
        });
}

/// Partial sums of a gradient by the weights, at most, in floats: 8 MiB of a third-level cache.
const SUMS: usize = 2 * 1024 * 1024;

/// In how many partial sums the blocks are added up: fixed by the shape.
pub(super) fn chunks(gather: &Gather, panels: &[Panel], width: usize) -> usize {
    let blocks = Blocks::new(gather, TASKS).count();
    (SUMS / (panels.len() * gather.depth() * width)).clamp(1, TASKS.min(blocks))
}

/// `sums` (chunks, panels, depth, width) += the products of `x` and `dy`: each task sums some of the
/// blocks for some of the panels, so that a window serves several panels.
pub(super) fn add_grad_weight(
    tiles: &Tiles,
    gather: &Gather,
    panels: &[Panel],
    chunks: usize,
    x: &[f32],
    dy: &[f32],
    sums: &mut [f32],
) {
    let blocks = Blocks::new(gather, TASKS);
    let runs = gather.runs(&blocks);
    let size = gather.depth() * tiles.width();
    let channels = gather.to_channels;
    let together = panels.len().div_ceil(TASKS.div_ceil(chunks));
    let task = |chunk: usize, panels: &[Panel], sums: &mut [f32]| {
        let mut window = Window::new(&blocks, x);
        let mut columns = Buffer::scratch(blocks.from.len() * tiles.width());
        for index in blocks.count() * chunk / chunks..blocks.count() * (chunk + 1) / chunks {
            let block = blocks.block(index);
            let from = &blocks.from[..block.places(gather)];
            let dy = &dy[gather.target_base(&block)..];
            for (panel, sums) in panels.iter().zip(sums.chunks_exact_mut(size)) {
                let width = panel.width(tiles.lanes);
                let sums = &mut sums[..gather.depth() * width];
                let window = window.of(gather, &block, panel.group);
                let columns = if panel.columns == width && channels == width {
                    &dy[..from.len() * width] // already one panel
                } else {
                    pack::columns(dy, channels, panel, width, from.len(), &mut columns)
                };
                add_products(tiles, panel, window, from, &runs, columns, sums);
            }
        }
    };
    sums.par_chunks_mut(panels.len() * size)
        .enumerate()
        .with_max_len(1)
        .for_each(|(chunk, sums)| {
            sums.par_chunks_mut(together * size)
                .zip(panels.par_chunks(together))
                .with_max_len(1)
                .for_each(|(sums, panels)| task(chunk, panels, sums));
        });
}

/// `sums` (depth, width) += window values of each place (depth) x `columns` (places, width).
fn add_products(
    tiles: &Tiles,
    panel: &Panel,
    window: &[f32],
    from: &[usize],
    runs: &[Run],
    columns: &[f32],
    sums: &mut [f32],
) {
    let width = panel.width(tiles.lanes);
    let mut depth = 0;
    for run in runs {
        for tile in even_parts(run.len, tiles.rows) {
            let sums = &mut sums[(depth + tile.start) * width..][..tile.len() * width];
            // SAFETY: the window has the runs of its block's places, of which these rows are a
            // part, and `columns` a row for each place.
            unsafe { tiles.outer(panel, window, from, run.offset + tile.start, columns, sums) };
        }
        depth += run.len;
    }
}
