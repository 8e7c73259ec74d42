//! Convolution over channels-last maps, (N, H, W, C), with weights in PyTorch's layout,
//! (O, I/groups, kernel, kernel).
//!
//! Nothing is unrolled into columns. All three passes see a convolution as a gather: a place of
//! the output reads a few runs of contiguous floats of the input, at the same offsets from a base
//! of its own. A block of places, small enough for the second-level cache, is worked on at once:
//! its part of the input is copied once into a window with the zero padding written out (or read
//! in place where there is none), so that the inner loops know no borders. Channels-last, a whole
//! row of the kernel is one run: 3 runs of 3C floats for a 3x3 kernel.
//!
//! - Forward: register tiles of places x output channels, over weights packed by panels of
//!   output channels.
//! - Gradient by the input: the same, from the gradient of the output, with the kernel turned
//!   round. With a stride s, the places of the input fall into s² parity classes that read
//!   different parts of the kernel; each class is a convolution of its own.
//! - Gradient by the weights: tiles of (kernel place, input channel) x output channels, summed over
//!   the places of a block, then over blocks.
//!
//! # Numerics
//! f32 throughout. Blocks are fixed by the shape and sums over them are taken in order: the number
//! of threads changes no bit. Levels differ in rounding (AVX2 and AVX-512 fuse the multiplication
//! and the addition).
//!
//! # Design choice
//! Grouped convolutions are right, but each group is padded to whole registers of output channels:
//! a depthwise convolution wastes most of each register.

mod blocks;
mod gather;
mod lanes;
mod pack;
mod shape;
mod tiles;

#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use self::shape::ConvShape;

use self::blocks::{Blocks, Window};
use self::gather::{Gather, Run};
use self::pack::{Panel, panels};
use self::tiles::{Places, Tiles};
use super::simd::{self, Level};
use crate::Buffer;

/// `y = weight * x`: `x` is (N, H, W, `c_in`), `y` is (N, `out_h`, `out_w`, `c_out`) and
/// overwritten.
///
/// # Panics
/// A shape that does not pass [`ConvShape::check`], or slices of other lengths than the shape's.
pub fn forward(shape: &ConvShape, x: &[f32], weight: &[f32], y: &mut [f32]) {
    forward_at(simd::level(), shape, x, weight, y);
}

/// The gradient by the input: `dx`, overwritten, from the gradient `dy` of the output.
///
/// # Panics
/// As [`forward`].
pub fn grad_input(shape: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    grad_input_at(simd::level(), shape, dy, weight, dx);
}

/// The gradient by the weights: `dw`, overwritten, from the input `x` and the gradient `dy` of the
/// output.
///
/// # Panics
/// As [`forward`].
pub fn grad_weight(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    grad_weight_at(simd::level(), shape, x, dy, dw);
}

fn forward_at(level: Level, shape: &ConvShape, x: &[f32], weight: &[f32], y: &mut [f32]) {
    shape.assert("forward", x.len(), weight.len(), y.len());
    let tiles = Tiles::at(level);
    let gather = Gather::forward(shape);
    let panels = panels(tiles.lanes, shape.groups, shape.c_out);
    let packed = pack::forward(shape, &gather, &panels, tiles.lanes, weight);
    multiply(tiles, &gather, &panels, &packed, x, y);
}

fn grad_input_at(level: Level, shape: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    shape.assert("grad_input", dx.len(), weight.len(), dy.len());
    let tiles = Tiles::at(level);
    let panels = panels(tiles.lanes, shape.groups, shape.c_in);
    let classes = Gather::grad_input(shape);
    if classes.iter().any(Gather::reads_nothing) {
        dx.par_chunks_mut(1 << 16).for_each(|dx| dx.fill(0.));
    }
    for gather in classes.iter().filter(|class| !class.reads_nothing()) {
        let packed = pack::grad_input(shape, gather, &panels, tiles.lanes, weight);
        multiply(tiles, gather, &panels, &packed, dy, dx);
    }
}

/// Tasks a pass is cut into, at least, where the shape has work for so many.
const TASKS: usize = 16;

/// A target that tasks write to at places no two of them share.
#[derive(Clone, Copy)]
struct Target(*mut f32);

// SAFETY: tasks write through it to disjoint elements only (see `multiply`), and it does not
// outlive the exclusive borrow it was made from.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// A method, so that closures capture the whole and not the bare pointer.
    fn pointer(self) -> *mut f32 {
        self.0
    }
}

/// Writes what `gather` reads of `source` times the packed weights to its places of `target`, for
/// all panels of output channels.
fn multiply(
    tiles: &Tiles,
    gather: &Gather,
    panels: &[Panel],
    packed: &[f32],
    source: &[f32],
    target: &mut [f32],
) {
    let blocks = Blocks::new(gather, TASKS);
    let runs = gather.runs(&blocks);
    let depth = gather.depth();
    let width = tiles.width();
    let end = target.len();
    let target = Target(target.as_mut_ptr());
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
            for index in panels.len() * part / parts..panels.len() * (part + 1) / parts {
                let panel = &panels[index];
                let window = window.of(gather, &block, panel.group);
                let weights = &packed[index * depth * width..][..depth * panel.width(tiles.lanes)];
                for tile in even_parts(places, tiles.rows) {
                    let (from, to) = (&from[tile.clone()], &to[tile]);
                    let first = base + panel.first;
                    debug_assert!(to.iter().all(|to| first + to + panel.columns <= end));
                    // SAFETY: the window has what its block's places read, `weights` a row for each
                    // float of a place. Places are below the target's height and width, and
                    // `panel.first + panel.columns` is at most its channels, so all writes are in
                    // the target. No other task has this block and panel, and no two blocks share
                    // a place.
                    unsafe {
                        let target = target.pointer().add(first);
                        tiles.gather(panel, window, Places { from, to }, &runs, weights, target);
                    }
                }
            }
        });
}

fn grad_weight_at(level: Level, shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    shape.assert("grad_weight", x.len(), dw.len(), dy.len());
    let tiles = Tiles::at(level);
    let gather = Gather::forward(shape);
    let panels = panels(tiles.lanes, shape.groups, shape.c_out);
    let blocks = Blocks::new(&gather, TASKS);
    let runs = gather.runs(&blocks);
    let depth = gather.depth();
    let width = tiles.width();

    // Each task sums some of the blocks for one panel, into (depth, width) of its own.
    let chunks = TASKS.div_ceil(panels.len()).min(blocks.count());
    let size = depth * width;
    let mut sums = Buffer::scratch(panels.len() * chunks * size);
    sums.par_chunks_mut(size)
        .enumerate()
        .with_max_len(1)
        .for_each(|(task, sums)| {
            let (panel, chunk) = (&panels[task / chunks], task % chunks);
            let width = panel.width(tiles.lanes);
            let sums = &mut sums[..depth * width];
            sums.fill(0.);
            let mut window = Window::new(&blocks, x);
            let mut columns = Buffer::scratch(blocks.from.len() * width);
            for index in blocks.count() * chunk / chunks..blocks.count() * (chunk + 1) / chunks {
                let block = blocks.block(index);
                let window = window.of(&gather, &block, panel.group);
                let from = &blocks.from[..block.places(&gather)];
                let dy = &dy[gather.target_base(&block)..];
                let columns = if panel.columns == width && shape.c_out == width {
                    &dy[..from.len() * width] // already one panel
                } else {
                    pack::columns(dy, shape.c_out, panel, width, from.len(), &mut columns)
                };
                add_products(tiles, panel, window, from, &runs, columns, sums);
            }
        });

    // Chunks are added in order, whichever thread made them.
    let rows = pack::weight_rows(shape, &panels, dw);
    sums.par_chunks_mut(chunks * size)
        .zip(rows)
        .zip(&panels)
        .for_each(|((sums, dw), panel)| {
            let (sum, others) = sums.split_at_mut(size);
            for other in others.chunks_exact(size) {
                let used = depth * panel.width(tiles.lanes);
                for (sum, other) in sum[..used].iter_mut().zip(other) {
                    *sum += other;
                }
            }
            pack::unpack_weight(shape, &gather, panel, tiles.lanes, sum, dw);
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

/// `0..len` in as few ranges of at most `most` as possible, of lengths that differ by one at most.
fn even_parts(len: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let parts = len.div_ceil(most);
    (0..parts).map(move |part| len * part / parts..len * (part + 1) / parts)
}
