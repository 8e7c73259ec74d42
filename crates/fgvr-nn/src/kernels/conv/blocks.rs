//! A convolution's places cut into blocks, and the window of the input that a block reads.

use super::gather::Gather;
use crate::Buffer;

/// Floats of a block's window, at most where one row of places allows it: a quarter of a second-
/// level cache of 1 MiB, beside a panel of weights.
const WINDOW: usize = 64 * 1024;
/// Places of a block, at least and at most.
const PLACES: [usize; 2] = [112, 512];

/// Neighbouring places that are worked on at once: whole images, or some rows of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) image: usize,
    images: usize,
    pub(super) row: usize,
    rows: usize,
}

impl Block {
    /// How many places it has: a first part of `Blocks::from` and `Blocks::to`.
    pub(super) fn places(&self, gather: &Gather) -> usize {
        self.images * self.rows * gather.columns.count
    }
}

/// How a gather is cut into blocks: fixed by its shape.
#[derive(Debug)]
pub(super) struct Blocks {
    n: usize,
    height: usize,
    images: usize,
    rows: usize,
    /// Floats of a window, if blocks need a copy.
    window: Option<usize>,
    /// Columns of a window.
    pub(super) window_columns: usize,
    /// Base of each place in the window.
    pub(super) from: Vec<usize>,
    /// Each place in the target, relative to the first.
    pub(super) to: Vec<usize>,
}

impl Blocks {
    /// Blocks whose windows fit the cache; about `tasks` of them where they would not get too small.
    pub(super) fn new(gather: &Gather, tasks: usize) -> Self {
        let (height, width) = (gather.rows.count, gather.columns.count);
        let pitch = gather.pitch();
        let line = gather.columns.span(width) * pitch;
        let image = gather.rows.span(height) * line;
        let [least, most] = PLACES;
        let places = (gather.n * height * width)
            .div_ceil(tasks)
            .clamp(least, most);
        // An image a little larger than asked stays whole: its parts would copy rows twice.
        let images = (places * 4 / 3 / (height * width))
            .min(WINDOW / image)
            .min(gather.n);
        let (images, rows) = if images > 0 {
            (images, height)
        } else {
            let in_window =
                (WINDOW / line).saturating_sub(gather.rows.span(1)) / gather.rows.from_step;
            let rows = (places / width).min(in_window + 1).clamp(1, height);
            (1, height.div_ceil(height.div_ceil(rows)))
        };

        let inside = gather.rows.inside() && gather.columns.inside();
        let in_place = inside && gather.is_contiguous();
        let (window, window_rows, window_columns) = if in_place {
            (None, gather.rows.from_size, gather.columns.from_size)
        } else {
            let window_rows = gather.rows.span(rows);
            (
                Some(images * window_rows * line),
                window_rows,
                gather.columns.span(width),
            )
        };
        let mut from = Vec::with_capacity(images * rows * width);
        let mut to = Vec::with_capacity(images * rows * width);
        for image in 0..images {
            for row in 0..rows {
                for column in 0..width {
                    let line = image * window_rows + gather.rows.from_step * row;
                    let column_from = gather.columns.from_step * column;
                    from.push((line * window_columns + column_from) * pitch);
                    let line = image * gather.rows.to_size + gather.rows.to_step * row;
                    let column_to = gather.columns.to_step * column;
                    to.push((line * gather.columns.to_size + column_to) * gather.to_channels);
                }
            }
        }
        Self {
            n: gather.n,
            height,
            images,
            rows,
            window,
            window_columns,
            from,
            to,
        }
    }

    /// Blocks of one image, or of several images if those are taken whole.
    fn per_image(&self) -> usize {
        self.height.div_ceil(self.rows)
    }

    /// How many blocks there are.
    pub(super) fn count(&self) -> usize {
        self.n.div_ceil(self.images) * self.per_image()
    }

    /// The block of this index.
    pub(super) fn block(&self, index: usize) -> Block {
        let image = index / self.per_image() * self.images;
        let row = index % self.per_image() * self.rows;
        Block {
            image,
            images: self.images.min(self.n - image),
            row,
            rows: self.rows.min(self.height - row),
        }
    }
}

/// The input that a block reads: a copy with the padding written out, or the input itself.
pub(super) struct Window<'a> {
    source: &'a [f32],
    copy: Option<Buffer>,
    /// Block and group of the copy.
    holds: Option<(Block, usize)>,
}

impl<'a> Window<'a> {
    /// A window for the blocks of one task.
    pub(super) fn new(blocks: &Blocks, source: &'a [f32]) -> Self {
        Self {
            source,
            copy: blocks.window.map(Buffer::scratch),
            holds: None,
        }
    }

    /// The window of `block`, of the channels of `group`.
    pub(super) fn of(&mut self, gather: &Gather, block: &Block, group: usize) -> &[f32] {
        let Some(copy) = &mut self.copy else {
            return &self.source[gather.source_base(block)..];
        };
        if self.holds != Some((*block, group)) {
            copy_window(gather, block, group, self.source, copy);
            self.holds = Some((*block, group));
        }
        copy
    }
}

/// Copies the part of `source` that `block` reads in `group` to `window`, zeros around it.
fn copy_window(gather: &Gather, block: &Block, group: usize, source: &[f32], window: &mut [f32]) {
    let (rows, columns) = (&gather.rows, &gather.columns);
    let (channels, pitch) = (gather.channels(), gather.pitch());
    let top = rows.low() + (rows.from_step * block.row) as isize;
    let height = rows.span(block.rows);
    let width = columns.span(columns.count);
    let inside_rows = clip(top, height, rows.from_size);
    let inside = clip(columns.low(), width, columns.from_size);
    let lines = window.chunks_exact_mut(width * pitch);
    for (index, line) in lines.take(block.images * height).enumerate() {
        let (image, row) = (block.image + index / height, index % height);
        if !inside_rows.contains(&row) || inside.is_empty() {
            line.fill(0.);
            continue;
        }
        let row = row.wrapping_add_signed(top);
        let first = inside.start.wrapping_add_signed(columns.low());
        let first = (image * rows.from_size + row) * columns.from_size + first;
        let source = &source[first * gather.from_channels..];
        let source = &source[..inside.len() * gather.from_channels];
        line[..inside.start * pitch].fill(0.);
        line[inside.end * pitch..].fill(0.);
        let line = &mut line[inside.start * pitch..inside.end * pitch];
        if gather.is_contiguous() {
            line.copy_from_slice(source);
        } else {
            // What lies between the channels of neighbouring places is never read.
            let source = source.chunks_exact(gather.from_channels);
            for (place, source) in line.chunks_exact_mut(pitch).zip(source) {
                place[..channels].copy_from_slice(&source[group * channels..][..channels]);
            }
        }
    }
}

/// The part of `0..len` for which `low + index` is in `0..size`.
fn clip(low: isize, len: usize, size: usize) -> std::ops::Range<usize> {
    let start = len.min(low.min(0).unsigned_abs());
    let end = (size as isize - low).clamp(start as isize, len as isize);
    start..end as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::conv::ConvShape;

    #[test]
    fn clip_keeps_the_indices_inside() {
        for (low, len, size) in [(-2, 7, 3), (0, 4, 4), (5, 3, 4), (-9, 4, 4), (2, 6, 4)] {
            let kept: Vec<_> = (0..len)
                .filter(|i| (0..size as isize).contains(&(low + *i as isize)))
                .collect();
            assert_eq!(
                clip(low, len, size).collect::<Vec<_>>(),
                kept,
                "{low} {len} {size}"
            );
        }
    }

    #[test]
    fn blocks_cover_every_place_of_the_target_once() {
        for (n, h, w, stride, c_in) in [(33, 5, 7, 2, 3), (2, 96, 40, 1, 16), (1, 1, 300, 3, 600)] {
            let shape = ConvShape {
                n,
                h,
                w,
                c_in,
                c_out: 1,
                kernel: 3,
                stride,
                padding: 1.into(),
                dilation: 1,
                groups: 1,
            };
            let mut seen = vec![0; n * h * w * c_in];
            for class in Gather::grad_input(&shape) {
                let blocks = Blocks::new(&class, 16);
                for block in (0..blocks.count()).map(|index| blocks.block(index)) {
                    for to in &blocks.to[..block.places(&class)] {
                        seen[class.target_base(&block) + to] += 1;
                    }
                }
            }
            assert!(seen.chunks(c_in).all(|place| place[0] == 1), "{shape:?}");
        }
    }
}
