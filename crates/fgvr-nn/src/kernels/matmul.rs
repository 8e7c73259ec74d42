//! Matrix products whose bits do not depend on the number of threads.

use gemm::Parallelism;
use rayon::prelude::*;

use super::target::Target;

/// Rows and columns of the result's tiles: the unit of parallel work, fixed by the shape.
const TILE: usize = 256;

/// A matrix over a slice; strides make a transpose free.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix over `data`, which holds `rows * columns` values.
    ///
    /// # Panics
    /// A slice of another length: a fault of the caller, which knows both.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "matrix of {rows} x {columns}");
        Self {
            data,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// The transpose, without moving a value.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `c = a b`, row-major, overwritten.
///
/// # Panics
/// Sizes that do not agree: a fault of the caller.
pub fn matmul(a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(
        b.rows == k && c.len() == m * n,
        "matmul: {m}x{k} by {}x{n} into {}",
        b.rows,
        c.len()
    );
    if k == 0 {
        return c.fill(0.);
    }
    let (down, across) = (m.div_ceil(TILE), n.div_ceil(TILE));
    let target = Target::new(c);
    (0..down * across).into_par_iter().for_each(|tile| {
        let (row, column) = (tile / across * TILE, tile % across * TILE);
        let (rows, columns) = (TILE.min(m - row), TILE.min(n - column));
        // SAFETY: `a` holds m x k and `b` k x n values at their strides (checked in `new`), so the
        // tile's rows of `a` and columns of `b` are in bounds; the tile [row..row + rows,
        // column..column + columns] lies inside `c` and no other task touches it.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                k,
                target.at(row * n + column, (rows - 1) * n + columns),
                1,
                n as isize,
                false,
                a.data.as_ptr().wrapping_add(row * a.row_stride),
                a.column_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr().wrapping_add(column * b.column_stride),
                b.column_stride as isize,
                b.row_stride as isize,
                0.,
                1.,
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    });
}
