//! How a map is cut into tiles, and how a tile at the border is read and written.

use super::transform::{InputTile, POSITIONS, SIDE, STEP, Tile};
use crate::Buffer;
use crate::kernels::conv::gather::Gather;
use crate::kernels::conv::pack::Panel;
use crate::kernels::conv::tiles::Tiles;
use crate::kernels::conv::{Target, odd_lines};

/// Floats of the widest panel.
const WIDEST: usize = 32;

/// See [`Grid::spare`].
pub(super) struct Spare {
    zeros: Buffer,
    last: Buffer,
}

/// The tiles of a gather of 3x3 taps and step 1.
pub(super) struct Grid<'a> {
    gather: &'a Gather,
    down: usize,
    across: usize,
    /// Tiles of all images.
    pub(super) count: usize,
    /// Channels of the source.
    pub(super) channels: usize,
    /// Registers of the source's channels, and floats from one transformed tile to the next.
    vectors: usize,
    pub(super) pitch: usize,
    lanes: usize,
}

impl<'a> Grid<'a> {
    pub(super) fn new(gather: &'a Gather, lanes: usize) -> Self {
        let down = gather.rows.count.div_ceil(STEP);
        let across = gather.columns.count.div_ceil(STEP);
        let channels = gather.from_channels;
        let vectors = channels.div_ceil(lanes);
        Self {
            gather,
            down,
            across,
            count: gather.n * down * across,
            channels,
            vectors,
            pitch: odd_lines(vectors * lanes),
            lanes,
        }
    }

    /// Image of a tile, and its first row and column of the output.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let image = tile / (self.down * self.across);
        let (row, column) = (tile / self.across % self.down, tile % self.across);
        (image, row * STEP, column * STEP)
    }

    /// Registers of zeros, and room for one place that cannot be read in place.
    pub(super) fn spare(&self) -> Spare {
        Spare {
            zeros: Buffer::zeros(self.vectors * self.lanes),
            last: Buffer::zeros(self.vectors * self.lanes),
        }
    }

    /// The 6x6 places that a tile reads; those outside of the map are zeros.
    pub(super) fn input(&self, tile: usize, source: &[f32], spare: &mut Spare) -> InputTile {
        let (image, row, column) = self.place(tile);
        let (rows, columns) = (&self.gather.rows, &self.gather.columns);
        let (row, column) = (row as isize + rows.low(), column as isize + columns.low());
        let (height, width) = (rows.from_size, columns.from_size);
        let read = self.vectors * self.lanes;
        let mut from = [spare.zeros.as_ptr(); POSITIONS];
        for (y, from) in from.chunks_exact_mut(SIDE).enumerate() {
            let Some(y) = row
                .checked_add_unsigned(y)
                .filter(|y| (0..height as isize).contains(y))
            else {
                continue;
            };
            let line = (image * height + y as usize) * width;
            for (x, from) in from.iter_mut().enumerate() {
                let x = column.wrapping_add_unsigned(x);
                if !(0..width as isize).contains(&x) {
                    continue;
                }
                let first = (line + x as usize) * self.channels;
                *from = match source.get(first..first + read) {
                    Some(place) => place.as_ptr(),
                    // Whole registers of the very last place would reach beyond the end.
                    None => {
                        spare.last[..self.channels].copy_from_slice(&source[first..]);
                        spare.last.as_ptr()
                    }
                };
            }
        }
        InputTile {
            from,
            vectors: self.vectors,
            to: std::ptr::null_mut(),
            position: 0,
        }
    }

    /// The 4x4 places of the output that a tile has the gradient of, with `channels` each: in place,
    /// or copied to `border` with zeros where some are outside.
    pub(super) fn gradient(
        &self,
        tile: usize,
        channels: usize,
        dy: &[f32],
        border: &mut [f32],
    ) -> Tile {
        let (image, row, column) = self.place(tile);
        let (height, width) = (self.gather.rows.to_size, self.gather.columns.to_size);
        let vectors = channels.div_ceil(self.lanes);
        let pitch = vectors * self.lanes;
        let inside = row + STEP <= height && column + STEP <= width;
        let mut tile = Tile {
            from: dy[((image * height + row) * width + column) * channels..].as_ptr(),
            row: width * channels,
            column: channels,
            vectors,
            to: std::ptr::null_mut(),
            position: 0,
        };
        if inside && channels == pitch {
            return tile;
        }
        let columns = STEP.min(width - column);
        for (y, places) in border.chunks_exact_mut(STEP * pitch).take(STEP).enumerate() {
            places.fill(0.);
            if row + y < height {
                let first = ((image * height + row + y) * width + column) * channels;
                let from = dy[first..][..columns * channels].chunks_exact(channels);
                for (place, from) in places.chunks_exact_mut(pitch).zip(from) {
                    place[..channels].copy_from_slice(from);
                }
            }
        }
        tile.from = border.as_ptr();
        (tile.row, tile.column) = (STEP * pitch, pitch);
        tile
    }

    /// Transforms the products of a tile to the panel's channels of its places in `target`.
    ///
    /// # Safety
    /// `from` must have 36 positions, `position` apart, of the panel's width; `target` must be that
    /// of the gather, and nobody else may write the panel's channels of this tile's places.
    pub(super) unsafe fn output(
        &self,
        tiles: &Tiles,
        tile: usize,
        panel: &Panel,
        from: *const f32,
        position: usize,
        target: Target<'_>,
    ) {
        let (image, row, column) = self.place(tile);
        let (rows, columns) = (&self.gather.rows, &self.gather.columns);
        let channels = self.gather.to_channels;
        let height = STEP.min(rows.count - row);
        let width = STEP.min(columns.count - column);
        let first = (image * rows.to_size + row) * columns.to_size + column;
        let first = first * channels + panel.first;
        let line = columns.to_size * channels;
        let mut job = Tile {
            from,
            row: line,
            column: channels,
            vectors: panel.vectors,
            to: target.at(
                first,
                (height - 1) * line + (width - 1) * channels + panel.columns,
            ),
            position,
        };
        if (height, width) == (STEP, STEP) && panel.columns == panel.width(self.lanes) {
            // SAFETY: the 4x4 places are in the target, and the panel fills its registers.
            unsafe { (tiles.winograd.output)(&job) };
            return;
        }
        let mut places = [0.; STEP * STEP * WIDEST];
        let to = job.to;
        (job.row, job.column) = (STEP * WIDEST, WIDEST);
        job.to = places.as_mut_ptr();
        // SAFETY: `places` has room for 4x4 places of the widest panel.
        unsafe { (tiles.winograd.output)(&job) };
        for y in 0..height {
            for x in 0..width {
                let from = places[(y * STEP + x) * WIDEST..][..panel.columns].as_ptr();
                // SAFETY: the place is in the target and has the panel's columns.
                unsafe {
                    let to = to.add(y * line + x * channels);
                    std::ptr::copy_nonoverlapping(from, to, panel.columns);
                }
            }
        }
    }
}
