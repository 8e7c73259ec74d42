//! Products of rows with a matrix that was packed once: the register tiles of a 1x1 convolution, on
//! the caller's thread.

use super::gather::Run;
use super::pack::{Panel, panels};
use super::tiles::{Places, Tiles};
use super::{Level, even_parts};
use crate::Buffer;

/// A matrix (depth, columns) in the order in which the register tiles read it.
///
/// The values of a row of a product do not depend on the rows beside it.
pub(crate) struct PackedMatrix {
    tiles: &'static Tiles,
    panels: Vec<Panel>,
    packed: Buffer,
    depth: usize,
    columns: usize,
}

/// Rows of `depth` or of `columns` values, `stride` apart, from `start`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) start: usize,
    pub(crate) stride: usize,
    pub(crate) count: usize,
}

impl Rows {
    /// Where the last of them ends.
    fn end(&self, len: usize) -> usize {
        match self.count.checked_sub(1) {
            Some(last) => self.start + last * self.stride + len,
            None => 0,
        }
    }
}

impl PackedMatrix {
    /// Packs a matrix whose value at (k, column) is `at(k, column)`.
    ///
    /// # Panics
    /// A size of zero: a fault of the caller.
    pub(crate) fn new(
        level: Level,
        [depth, columns]: [usize; 2],
        at: impl Fn(usize, usize) -> f32,
    ) -> Self {
        assert!(depth > 0 && columns > 0, "matrix of {depth} x {columns}");
        let tiles = Tiles::at(level);
        let panels = panels(tiles.lanes, 1, columns);
        let size = depth * tiles.width();
        let mut packed = Buffer::scratch(panels.len() * size);
        for (panel, packed) in panels.iter().zip(packed.chunks_mut(size)) {
            let width = panel.width(tiles.lanes);
            for (k, row) in packed.chunks_exact_mut(width).take(depth).enumerate() {
                let (values, padding) = row.split_at_mut(panel.columns);
                for (j, value) in values.iter_mut().enumerate() {
                    *value = at(k, panel.first + j);
                }
                padding.fill(0.);
            }
        }
        Self {
            tiles,
            panels,
            packed,
            depth,
            columns,
        }
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// `y` (rows, columns) = `x` (rows, depth) times the matrix, on the caller's thread.
    ///
    /// # Panics
    /// Lengths that are not of the same number of rows: a fault of the caller.
    pub(crate) fn multiply(&self, x: &[f32], y: &mut [f32]) {
        let count = x.len() / self.depth;
        let of = |stride| Rows {
            start: 0,
            stride,
            count,
        };
        let (from, to) = (of(self.depth), of(self.columns));
        assert!(
            x.len() == count * self.depth && y.len() == count * self.columns,
            "{} values into {} by a matrix of {} x {}",
            x.len(),
            y.len(),
            self.depth,
            self.columns
        );
        // SAFETY: `y` has `count` rows of `columns` values, and is borrowed exclusively.
        unsafe { self.multiply_to(x, from, y.as_mut_ptr(), to) }
    }

    /// As [`PackedMatrix::multiply`], for the rows `from` of `x` into the rows `to` of `target`.
    ///
    /// # Panics
    /// Rows that `x` does not have, or another number of them in `to`.
    ///
    /// # Safety
    /// `target` must be valid for writing the rows `to` of `columns` values each, and nobody else may
    /// read or write these meanwhile.
    pub(crate) unsafe fn multiply_to(&self, x: &[f32], from: Rows, target: *mut f32, to: Rows) {
        assert!(
            from.end(self.depth) <= x.len() && from.count == to.count,
            "{from:?} of {} values into {to:?}",
            x.len()
        );
        let runs = [Run {
            offset: 0,
            row: 0,
            len: self.depth,
        }];
        let place = |rows: Rows| move |r: usize| rows.start + r * rows.stride;
        let (sources, targets): (Vec<usize>, Vec<usize>) = (0..from.count)
            .map(|r| (place(from)(r), place(to)(r)))
            .unzip();
        let size = self.depth * self.tiles.width();
        for (panel, packed) in self.panels.iter().zip(self.packed.chunks(size)) {
            for tile in even_parts(from.count, self.tiles.rows) {
                let places = Places {
                    from: &sources[tile.clone()],
                    to: &targets[tile],
                };
                // SAFETY: `x` has `depth` values from each place (checked above), the panel a row of
                // weights for each of them; `target` has `columns` values from each place by the
                // caller's promise, of which the panel's are a part.
                unsafe {
                    let target = target.wrapping_add(panel.first);
                    (self.tiles).gather(panel, x, places, &runs, packed, target, None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition_at_every_level() {
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.) / 25.;
        for level in Level::available() {
            for (rows, depth, columns) in [(1, 1, 1), (15, 7, 33), (29, 64, 197), (3, 40, 32)] {
                let x: Vec<f32> = (0..rows * depth).map(value).collect();
                let at = |k: usize, column: usize| value(3 + k * columns + column);
                let matrix = PackedMatrix::new(level, [depth, columns], at);
                let mut y = vec![f32::NAN; rows * columns];
                matrix.multiply(&x, &mut y);
                for (i, y) in y.iter().enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let products = (0..depth).map(|k| x[row * depth + k] * at(k, column));
                    let expected: f64 = products.map(f64::from).sum();
                    assert!(
                        (f64::from(*y) - expected).abs() < 1e-4,
                        "{level:?} {row} {column}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_is_beside_it() {
        let value = |i: usize| (i as f32 * 0.37).sin();
        let (rows, depth, columns) = (33, 50, 70);
        let x: Vec<f32> = (0..rows * depth).map(value).collect();
        let matrix =
            PackedMatrix::new(Level::detected(), [depth, columns], |k, c| value(k * 7 + c));
        let mut all = vec![0.; rows * columns];
        matrix.multiply(&x, &mut all);
        for (x, expected) in x.chunks(depth).zip(all.chunks(columns)) {
            let mut y = vec![0.; columns];
            matrix.multiply(x, &mut y);
            assert_eq!(y, expected);
        }
    }
}
