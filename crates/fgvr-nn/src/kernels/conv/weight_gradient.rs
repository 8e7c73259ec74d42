//! The gradient of a convolution by its weights, summed over batches.

use rayon::prelude::*;

use super::depthwise::{self, DepthwiseTiles};
use super::gather::Gather;
use super::pack::{self, Panel, panels};
use super::tiles::Tiles;
use super::{ConvShape, Level, Method, direct, simd, small, winograd};
use crate::Buffer;
use crate::kernels::rows;

/// Sums the gradient by the weights over one or more parts of a batch.
pub struct WeightGradient {
    shape: ConvShape,
    method: Method,
    tiles: &'static Tiles,
    depthwise: &'static DepthwiseTiles,
    gather: Gather,
    panels: Vec<Panel>,
    /// Partial sums; added in order at the end.
    chunks: usize,
    /// (chunks, panels, depth, width); of a depthwise convolution (chunks, taps, C)
    sums: Buffer,
}

impl WeightGradient {
    /// A gradient of zero. Parts of the batch may have fewer images than `shape`.
    ///
    /// # Panics
    /// A shape that does not pass [`ConvShape::check`].
    #[must_use]
    pub fn new(shape: &ConvShape) -> Self {
        Self::at(simd::level(), shape)
    }

    pub(super) fn at(level: Level, shape: &ConvShape) -> Self {
        shape.assert_weight(shape.weight_len());
        let tiles = Tiles::at(level);
        let method = if shape.is_depthwise() {
            Method::Depthwise
        } else if winograd::suits_grad_weight(shape) {
            Method::Winograd
        } else if small::suits(shape) {
            Method::Small
        } else {
            Method::Direct
        };
        let gather = Gather::forward(shape);
        let panels = match method {
            Method::Depthwise => Vec::new(),
            _ => panels(tiles.lanes, shape.groups, shape.c_out),
        };
        let chunks = match method {
            Method::Depthwise => depthwise::chunks(&gather),
            Method::Direct => direct::chunks(&gather, &panels, tiles.width()),
            Method::Small | Method::Winograd | Method::WinogradFew => 1,
        };
        let of_chunk = match method {
            Method::Depthwise => shape.weight_len(),
            _ => panels.len() * gather.depth() * tiles.width(),
        };
        let mut sums = Buffer::scratch(chunks * of_chunk);
        sums.par_chunks_mut(1 << 16).for_each(|sums| sums.fill(0.));
        Self {
            shape: *shape,
            method,
            tiles,
            depthwise: DepthwiseTiles::at(level),
            gather,
            panels,
            chunks,
            sums,
        }
    }

    /// Adds the gradient of some images, from their inputs `x` and the gradient `dy` of their
    /// outputs.
    ///
    /// # Panics
    /// Slices that are not of a whole number of images, or not of the same.
    pub fn add(&mut self, x: &[f32], dy: &[f32]) {
        let n = self.shape.images(x.len(), dy.len());
        let gather = Gather {
            n,
            ..self.gather.clone()
        };
        let (tiles, panels, sums) = (self.tiles, &self.panels, &mut self.sums);
        match self.method {
            Method::Depthwise => {
                depthwise::add_grad_weight(self.depthwise, &gather, x, dy, sums);
            }
            Method::Direct => {
                direct::add_grad_weight(tiles, &gather, panels, self.chunks, x, dy, sums);
            }
            Method::Small => small::add_grad_weight(tiles, &gather, panels, x, dy, sums),
            Method::Winograd | Method::WinogradFew => {
                winograd::add_grad_weight(tiles, &gather, panels, x, dy, sums);
            }
        }
    }

    /// Writes the sum to `dw` (`c_out`, `c_in`/groups, kernel, kernel).
    ///
    /// # Panics
    /// A slice of another length than the shape's weights.
    pub fn finish(mut self, dw: &mut [f32]) {
        self.shape.assert_weight(dw.len());
        if self.method == Method::Depthwise {
            let taps = self.shape.kernel * self.shape.kernel;
            return depthwise::finish(&mut self.sums, taps, dw);
        }
        let (shape, gather, lanes) = (&self.shape, &self.gather, self.tiles.lanes);
        let size = gather.depth() * self.tiles.width();
        let rows = pack::weight_rows(shape, &self.panels, dw);
        // Chunks are added in order, whichever thread made them.
        let (sums, others) = self.sums.split_at_mut(self.panels.len() * size);
        let others = &*others;
        sums.par_chunks_mut(size)
            .zip(rows)
            .zip(&self.panels)
            .enumerate()
            .for_each(|(index, ((sum, dw), panel))| {
                let used = gather.depth() * panel.width(lanes);
                for other in others.chunks_exact(self.panels.len() * size) {
                    let other = &other[index * size..][..used];
                    rows::add(&mut sum[..used], other);
                }
                pack::unpack_weight(shape, gather, panel, lanes, sum, dw);
            });
    }
}
