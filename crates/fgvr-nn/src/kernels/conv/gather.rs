//! What each place of a convolution's output reads: runs of floats in a window of its input.

use super::ConvShape;
use super::blocks::{Block, Blocks};

/// Floats between neighbouring places that fall on the same few lines of a first-level cache of 8
/// ways: 2 KiB. A tile's places would push each other out.
const CONFLICT: usize = 512;
/// What is added to the distance then: a line.
const LINE: usize = 16;

/// Contiguous floats of a window that a place reads, from `offset` of the place's base, and the first
/// of the packed weights' rows that they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) row: usize,
}

/// One axis of a gather: place `i` of the output is `to_first + to_step * i` of the target and reads
/// `from_step * i + offset` of the source for each tap.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Index in the kernel, and offset in the source, by rising offset. May be empty.
    taps: Vec<(usize, isize)>,
    pub(super) count: usize,
    pub(super) from_step: usize,
    pub(super) from_size: usize,
    pub(super) to_step: usize,
    pub(super) to_first: usize,
    pub(super) to_size: usize,
}

impl Axis {
    /// Output i of a convolution reads s i + d k - p for k in the kernel, with p zeros before.
    fn forward(s: &ConvShape, [size, out, before]: [usize; 3]) -> Self {
        let offset = |k: usize| (k * s.dilation) as isize - before as isize;
        Self {
            taps: (0..s.kernel).map(|k| (k, offset(k))).collect(),
            count: out,
            from_step: s.stride,
            from_size: size,
            to_step: 1,
            to_first: 0,
            to_size: out,
        }
    }

    /// Input q = s i + first receives from the outputs o with s o + d k - p = q: those k for which
    /// s divides first + p - d k, at o = i + (first + p - d k) / s.
    fn grad_input(s: &ConvShape, [size, out, before]: [usize; 3], first: usize) -> Self {
        let stride = s.stride as isize;
        let distance = |k: usize| (first + before) as isize - (k * s.dilation) as isize;
        Self {
            taps: (0..s.kernel)
                .rev()
                .filter(|k| distance(*k) % stride == 0)
                .map(|k| (k, distance(k) / stride))
                .collect(),
            count: size.saturating_sub(first).div_ceil(s.stride),
            from_step: 1,
            from_size: out,
            to_step: s.stride,
            to_first: first,
            to_size: size,
        }
    }

    /// The lowest offset.
    pub(super) fn low(&self) -> isize {
        self.taps.first().map_or(0, |tap| tap.1)
    }

    /// The taps, by their number, that place `i` reads inside the source, and where.
    pub(super) fn inside_taps(&self, i: usize) -> impl Iterator<Item = (usize, usize)> {
        let base = (self.from_step * i) as isize;
        let sources = self.taps.iter().map(move |(_, offset)| base + offset);
        let size = self.from_size as isize;
        let inside = sources
            .enumerate()
            .filter(move |(_, at)| (0..size).contains(at));
        inside.map(|(tap, at)| (tap, at as usize))
    }

    /// Offset in the source of a tap, by its number.
    pub(super) fn offset(&self, tap: usize) -> isize {
        self.taps[tap].1
    }

    /// Number of taps.
    pub(super) fn len(&self) -> usize {
        self.taps.len()
    }

    /// Source indices that `count` places in a row span.
    pub(super) fn span(&self, count: usize) -> usize {
        let high = self.taps.last().map_or(0, |tap| tap.1);
        self.from_step * (count - 1) + (high - self.low()) as usize + 1
    }

    /// Whether no place reads outside the source.
    pub(super) fn inside(&self) -> bool {
        self.low() >= 0 && self.low() as usize + self.span(self.count) <= self.from_size
    }
}

/// Size of the input, size of the output and zeros before, along the rows.
fn of_rows(s: &ConvShape) -> [usize; 3] {
    [s.h, s.out_h(), s.padding.top]
}

/// As [`of_rows`], along the columns.
fn of_columns(s: &ConvShape) -> [usize; 3] {
    [s.w, s.out_w(), s.padding.left]
}

/// A convolution, or one parity class of a gradient by the input, as reads of a source (N, h, w, c)
/// and writes to a target (N, H, W, C).
#[derive(Clone, Debug)]
pub(super) struct Gather {
    pub(super) n: usize,
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    pub(super) groups: usize,
    /// Channels of the source and of the target.
    pub(super) from_channels: usize,
    pub(super) to_channels: usize,
}

impl Gather {
    /// From the input to the output.
    pub(super) fn forward(s: &ConvShape) -> Self {
        Self {
            n: s.n,
            rows: Axis::forward(s, of_rows(s)),
            columns: Axis::forward(s, of_columns(s)),
            groups: s.groups,
            from_channels: s.c_in,
            to_channels: s.c_out,
        }
    }

    /// From the gradient of the output to that of the input: one for each parity class with a place.
    pub(super) fn grad_input(s: &ConvShape) -> Vec<Self> {
        let mut classes = Vec::new();
        for row in 0..s.stride.min(s.h) {
            for column in 0..s.stride.min(s.w) {
                classes.push(Self {
                    n: s.n,
                    rows: Axis::grad_input(s, of_rows(s), row),
                    columns: Axis::grad_input(s, of_columns(s), column),
                    groups: s.groups,
                    from_channels: s.c_out,
                    to_channels: s.c_in,
                });
            }
        }
        classes
    }

    /// Whether no place of the kernel falls on this class: its target is zero.
    pub(super) fn reads_nothing(&self) -> bool {
        self.rows.taps.is_empty() || self.columns.taps.is_empty()
    }

    /// Channels that one place reads: those of its group.
    pub(super) fn channels(&self) -> usize {
        self.from_channels / self.groups
    }

    /// Places of one image of the source.
    pub(super) fn source_places(&self) -> usize {
        self.rows.from_size * self.columns.from_size
    }

    /// Floats from one column of a window to the next.
    pub(super) fn pitch(&self) -> usize {
        let channels = self.channels();
        if (self.columns.from_step * channels).is_multiple_of(CONFLICT) {
            channels + LINE
        } else {
            channels
        }
    }

    /// Whether a line of a window is laid out as a line of the source.
    pub(super) fn is_contiguous(&self) -> bool {
        self.groups == 1 && self.pitch() == self.channels()
    }

    /// Floats that one place reads: the terms of its sums.
    pub(super) fn depth(&self) -> usize {
        self.rows.taps.len() * self.columns.taps.len() * self.channels()
    }

    /// Indices into the (kernel, kernel) plane, in the order in which they are read.
    pub(super) fn taps(&self, kernel: usize) -> impl Iterator<Item = usize> {
        self.rows.taps.iter().flat_map(move |(row, _)| {
            self.columns
                .taps
                .iter()
                .map(move |(column, _)| row * kernel + column)
        })
    }

    /// The runs that a place reads, relative to its base in the window.
    pub(super) fn runs(&self, blocks: &Blocks) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (_, row) in &self.rows.taps {
            for (_, column) in &self.columns.taps {
                let row = (row - self.rows.low()) as usize;
                let column = (column - self.columns.low()) as usize;
                let offset = (row * blocks.window_columns + column) * self.pitch();
                match runs.last_mut() {
                    Some(last) if last.offset + last.len == offset => last.len += self.channels(),
                    _ => runs.push(Run {
                        offset,
                        len: self.channels(),
                        row: runs.iter().map(|run| run.len).sum(),
                    }),
                }
            }
        }
        runs
    }

    /// Index in the target of the first place of `block`.
    pub(super) fn target_base(&self, block: &Block) -> usize {
        let row = self.rows.to_first + self.rows.to_step * block.row;
        let row = block.image * self.rows.to_size + row;
        (row * self.columns.to_size + self.columns.to_first) * self.to_channels
    }

    /// Index in the source of the window of `block`, where it is read in place.
    pub(super) fn source_base(&self, block: &Block) -> usize {
        debug_assert!(self.rows.inside() && self.columns.inside());
        let row = self.rows.from_step * block.row + self.rows.low() as usize;
        let row = block.image * self.rows.from_size + row;
        (row * self.columns.from_size + self.columns.low() as usize) * self.from_channels
    }
}
