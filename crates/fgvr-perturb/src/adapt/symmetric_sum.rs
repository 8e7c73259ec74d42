//! A sum of outer products of rows, in f64, by tiles of its upper triangle.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

/// Rows and columns of a tile, the unit of parallel work: fixed, so that no result depends on the machine.
const TILE: usize = 256;

/// Rows that are multiplied at once. Sums are made within a block, then over blocks in their order.
pub(super) const BLOCK: usize = 512;

/// A symmetric matrix (C, C), the sum of r^T r over all rows r that were added.
#[derive(Clone, Debug)]
pub(super) struct SymmetricSum {
    width: usize,
    /// One for each of [`places`], row-major.
    tiles: Vec<Vec<f64>>,
}

impl SymmetricSum {
    pub(super) fn new(width: usize) -> Self {
        let tile = |(row, column): (usize, usize)| {
            vec![0.; TILE.min(width - row) * TILE.min(width - column)]
        };
        Self {
            width,
            tiles: places(width).map(tile).collect(),
        }
    }

    /// All tiles, one after the other.
    pub(super) fn values(&self) -> Vec<f64> {
        self.tiles.concat()
    }

    /// The sum whose [`values`](Self::values) these are; `None` where they are of another width.
    pub(super) fn of_values(width: usize, mut values: &[f64]) -> Option<Self> {
        let mut sum = Self::new(width);
        for tile in &mut sum.tiles {
            let (now, later) = values.split_at_checked(tile.len())?;
            tile.copy_from_slice(now);
            values = later;
        }
        values.is_empty().then_some(sum)
    }

    /// Adds the outer products of `rows` (n, C).
    pub(super) fn add(&mut self, rows: &[f64]) -> Result<()> {
        let n = rows.len() / self.width;
        if n == 0 {
            return Ok(());
        }
        let rows = Tensor::from_slice(rows, (n, self.width), &Device::Cpu)?;
        let part = |start: usize| rows.narrow(1, start, TILE.min(self.width - start));
        let places: Vec<_> = places(self.width).collect();
        self.tiles
            .par_iter_mut()
            .zip(places)
            .try_for_each(|(tile, (row, column))| {
                // (tile rows, n) x (n, tile columns)
                let product = part(row)?.t()?.matmul(&part(column)?)?;
                let product = product.flatten_all()?.to_vec1::<f64>()?;
                for (sum, value) in tile.iter_mut().zip(product) {
                    *sum += value;
                }
                Ok(())
            })
    }

    /// Adds the sum of another part of the rows, of the same width.
    pub(super) fn merge(&mut self, other: &Self) {
        for (tile, other) in self.tiles.iter_mut().zip(&other.tiles) {
            for (sum, value) in tile.iter_mut().zip(other) {
                *sum += value;
            }
        }
    }

    /// All of the matrix (C, C) times `factor`, row-major and symmetric to the bit.
    pub(super) fn dense(&self, factor: f64) -> Vec<f64> {
        let width = self.width;
        let mut dense = vec![0.; width * width];
        for (tile, (top, left)) in self.tiles.iter().zip(places(width)) {
            for (i, row) in tile.chunks_exact(TILE.min(width - left)).enumerate() {
                for (j, value) in row.iter().enumerate() {
                    let (row, column) = (top + i, left + j);
                    if row <= column {
                        dense[row * width + column] = factor * value;
                        dense[column * width + row] = factor * value;
                    }
                }
            }
        }
        dense
    }
}

/// The first row and column of each tile on or above the diagonal.
fn places(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width)
        .step_by(TILE)
        .flat_map(move |row| (row..width).step_by(TILE).map(move |column| (row, column)))
}

/// A [`SymmetricSum`] of rows that come one by one and are added in blocks of [`BLOCK`]: how the stream is cut
/// into calls changes no bit.
#[derive(Clone, Debug)]
pub(super) struct OuterProducts {
    sum: SymmetricSum,
    pending: Vec<f64>,
}

impl OuterProducts {
    pub(super) fn new(width: usize) -> Self {
        Self {
            sum: SymmetricSum::new(width),
            pending: Vec::new(),
        }
    }

    /// Of what [`sum`](Self::sum) and [`pending`](Self::pending) gave.
    pub(super) fn of(sum: SymmetricSum, pending: Vec<f64>) -> Self {
        Self { sum, pending }
    }

    /// The sum of whole blocks.
    pub(super) fn sum(&self) -> &SymmetricSum {
        &self.sum
    }

    /// Rows that wait for their block to fill.
    pub(super) fn pending(&self) -> &[f64] {
        &self.pending
    }

    /// Adds one row (C).
    pub(super) fn push(&mut self, row: impl Iterator<Item = f64>) -> Result<()> {
        self.pending.extend(row);
        if self.pending.len() == BLOCK * self.sum.width {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.sum.add(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Adds all rows of another part, of the same width.
    pub(super) fn merge(&mut self, mut other: Self) -> Result<()> {
        self.flush()?;
        other.flush()?;
        self.sum.merge(&other.sum);
        Ok(())
    }

    /// The sum (C, C) over all rows so far, times `factor`.
    pub(super) fn dense(&self, factor: f64) -> Result<Vec<f64>> {
        if self.pending.is_empty() {
            return Ok(self.sum.dense(factor));
        }
        let mut whole = self.sum.clone();
        whole.add(&self.pending)?;
        Ok(whole.dense(factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_over_several_tiles_and_blocks_is_that_of_the_definition() {
        // Small whole numbers, so that every sum is exact.
        let (n, width) = (BLOCK + 3, TILE + 5);
        let value = |row: usize, column: usize| ((row * 31 + column * 17) % 7) as f64 - 3.;
        let mut outer = OuterProducts::new(width);
        for row in 0..n {
            outer.push((0..width).map(|c| value(row, c))).unwrap();
        }
        let dense = outer.dense(2.).unwrap();
        for (i, j) in [
            (0, 0),
            (0, TILE),
            (TILE, 0),
            (TILE + 4, TILE + 4),
            (7, TILE - 1),
        ] {
            let expected: f64 = (0..n).map(|row| value(row, i) * value(row, j)).sum();
            assert_eq!(dense[i * width + j], 2. * expected, "{i}, {j}");
        }
    }
}
