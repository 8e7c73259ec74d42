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
//! Depthwise convolutions have loops of their own, see `depthwise`.
//! 3x3 kernels of stride 1 over enough channels go through `winograd` instead, and maps of few
//! places through `small`, all three passes.
//!
//! # Numerics
//! f32 throughout. Blocks are fixed by the shape and sums over them are taken in order: the number
//! of threads changes no bit. Levels differ in rounding (AVX2 and AVX-512 fuse the multiplication
//! and the addition).
//!
//! # Design choice
//! Other grouped convolutions are right, but each group is padded to whole registers of output channels:
//! groups of few channels waste most of each register.

mod blocks;
mod depthwise;
mod direct;
mod epilogue;
mod gather;
mod lanes;
mod matrix;
mod pack;
mod packed;
mod padding;
mod shape;
mod small;
mod tiles;
mod weight_gradient;
mod winograd;

#[cfg(test)]
mod tests;

pub use self::epilogue::Epilogue;
pub(crate) use self::matrix::{PackedMatrix, Rows};
pub use self::packed::Packed;
pub use self::padding::Padding;
pub use self::shape::ConvShape;
pub use self::weight_gradient::WeightGradient;

use super::simd::{self, Level};
use super::target::Target;

/// `y = weight * x`: `x` is (N, H, W, `c_in`), `y` is (N, `out_h`, `out_w`, `c_out`) and
/// overwritten.
///
/// # Panics
/// A shape that does not pass [`ConvShape::check`], or slices of other lengths than the shape's.
pub fn forward(shape: &ConvShape, x: &[f32], weight: &[f32], y: &mut [f32]) {
    Packed::forward(shape, weight).run(x, y);
}

/// The gradient by the input: `dx`, overwritten, from the gradient `dy` of the output.
///
/// # Panics
/// As [`forward`].
pub fn grad_input(shape: &ConvShape, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    Packed::grad_input(shape, weight).run(dy, dx);
}

/// The gradient by the weights: `dw`, overwritten, from the input `x` and the gradient `dy` of the
/// output.
///
/// # Panics
/// As [`forward`].
pub fn grad_weight(shape: &ConvShape, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let mut gradient = WeightGradient::new(shape);
    gradient.add(x, dy);
    gradient.finish(dw);
}

/// How a convolution is computed: by the shape alone, so that all levels agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Depthwise,
    Direct,
    Small,
    Winograd,
    /// Winograd, with weights that are transformed where they are used.
    WinogradFew,
}

/// Tasks a pass is cut into, at least, where the shape has work for so many.
const TASKS: usize = 16;

/// `0..len` in as few ranges of at most `most` as possible, of lengths that differ by one at most.
fn even_parts(len: usize, most: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let parts = len.div_ceil(most);
    (0..parts).map(move |part| len * part / parts..len * (part + 1) / parts)
}

/// Floats of a cache line.
const LINE: usize = 16;

/// `floats`, rounded up to an odd number of cache lines: streams that far apart fall on different
/// sets of a first-level cache.
fn odd_lines(floats: usize) -> usize {
    (floats.div_ceil(LINE) | 1) * LINE
}
