//! The Cholesky decomposition and the inverse of its factor, in f64.

use rayon::prelude::*;

use super::vectors::{add_scaled, dot};

/// Columns of the inverse that are computed together, so that they stay in the second-level cache.
const COLUMNS: usize = 32;

/// Turns the symmetric `matrix` (n, n) into the lower triangular L with L L^T = matrix, zeros above its diagonal.
///
/// Columns are computed in their order, the entries of a column in parallel and each on its own.
///
/// # Errors
/// The first channel at which the matrix is not positive definite to f64's rounding.
pub(super) fn cholesky(matrix: &mut [f64], n: usize) -> Result<(), usize> {
    for column in 0..n {
        let (above, below) = matrix.split_at_mut((column + 1) * n);
        let row = &mut above[column * n..];
        let (left, rest) = row.split_at_mut(column);
        let given = rest[0];
        let square = given - dot(left, left);
        // What rounding leaves of an exact 0, or NaN.
        if square.is_nan() || square <= n as f64 * f64::EPSILON * given {
            return Err(column);
        }
        let diagonal = square.sqrt();
        rest.fill(0.);
        rest[0] = diagonal;
        let left = &*left;
        below.par_chunks_mut(n).with_min_len(32).for_each(|row| {
            let (before, rest) = row.split_at_mut(column);
            rest[0] = (rest[0] - dot(before, left)) / diagonal;
        });
    }
    Ok(())
}

/// The inverse (n, n) of a lower triangular matrix with no zero on its diagonal; lower triangular, too.
pub(super) fn inverse_of_lower(lower: &[f64], n: usize) -> Vec<f64> {
    let columns = |first: usize| {
        let count = COLUMNS.min(n - first);
        // (n, count): the columns first.. of the inverse, by forward substitution.
        let mut block = vec![0.; n * count];
        for i in first..n {
            let (above, rest) = block.split_at_mut(i * count);
            let row = &mut rest[..count];
            if i - first < count {
                row[i - first] = 1.;
            }
            let above = above.chunks_exact(count).zip(&lower[i * n..]);
            for (other, entry) in above.skip(first) {
                add_scaled(row, -entry, other);
            }
            let diagonal = lower[i * n + i];
            row.iter_mut().for_each(|value| *value /= diagonal);
        }
        block
    };
    let starts: Vec<usize> = (0..n).step_by(COLUMNS).collect();
    let blocks: Vec<Vec<f64>> = starts.par_iter().map(|first| columns(*first)).collect();
    let mut inverse = vec![0.; n * n];
    for (first, block) in starts.into_iter().zip(blocks) {
        let count = COLUMNS.min(n - first);
        for (row, values) in inverse.chunks_exact_mut(n).zip(block.chunks_exact(count)) {
            row[first..first + count].copy_from_slice(values);
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B B^T + I of a full matrix B: symmetric and positive definite.
    fn positive(n: usize) -> Vec<f64> {
        let b: Vec<f64> = (0..n * n).map(|i| (i as f64 * 0.7).sin()).collect();
        let row = |i: usize| &b[i * n..(i + 1) * n];
        (0..n * n)
            .map(|at| dot(row(at / n), row(at % n)) + f64::from(u8::from(at / n == at % n)))
            .collect()
    }

    #[test]
    fn the_factor_gives_the_matrix_back_and_its_inverse_the_identity() {
        for n in [1, 2, 31, 32, 33, 100] {
            let matrix = positive(n);
            let mut lower = matrix.clone();
            cholesky(&mut lower, n).unwrap();
            let inverse = inverse_of_lower(&lower, n);
            for i in 0..n {
                for j in 0..n {
                    let row = |m: &[f64], i: usize| m[i * n..(i + 1) * n].to_vec();
                    let again = dot(&row(&lower, i), &row(&lower, j));
                    assert!((again - matrix[i * n + j]).abs() < 1e-12 * n as f64);
                    let column: Vec<f64> = (0..n).map(|k| lower[k * n + j]).collect();
                    let unit = dot(&row(&inverse, i), &column);
                    let expected = f64::from(u8::from(i == j));
                    assert!((unit - expected).abs() < 1e-12, "{n}: {i}, {j}: {unit}");
                    assert!(j <= i || lower[i * n + j] == 0. && inverse[i * n + j] == 0.);
                }
            }
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_refused_at_its_first_bad_channel() {
        assert_eq!(cholesky(&mut [1., 2., 2., 1.], 2), Err(1));
        assert_eq!(cholesky(&mut [1., 1., 1., 1.], 2), Err(1));
        assert_eq!(cholesky(&mut [0.], 1), Err(0));
        assert_eq!(cholesky(&mut [f64::NAN], 1), Err(0));
    }
}
