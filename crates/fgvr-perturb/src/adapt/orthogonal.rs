//! Orthogonal matrices as products of Householder reflections, and a random one.

use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::{AdaptError, check};
use crate::RandomKey;
use crate::key::Purpose;

/// Rows of a product that are computed together, so that they stay in the second-level cache.
const ROWS: usize = 32;

/// H_0 H_1 H_2 ..., each I - β v v^T with a v that is 0 before some index.
pub(super) struct Reflections {
    size: usize,
    reflections: Vec<Reflection>,
}

struct Reflection {
    /// The index of the first entry of `vector`.
    first: usize,
    vector: Vec<f64>,
    beta: f64,
}

impl Reflections {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            reflections: Vec::new(),
        }
    }

    /// Multiplies by I - β v v^T from the right; `vector` holds the last entries of v, the others are 0.
    pub(super) fn push(&mut self, vector: Vec<f64>, beta: f64) {
        let first = self.size - vector.len();
        self.reflections.push(Reflection {
            first,
            vector,
            beta,
        });
    }

    /// Rows of the product, transformed by `then`, with the rows of each block as columns: it gets (n, rows). Returns the
    /// product (n, n), transposed.
    pub(super) fn transposed(&self, then: impl Fn(&mut [f64], usize) + Sync) -> Vec<f64> {
        let n = self.size;
        let starts: Vec<usize> = (0..n).step_by(ROWS).collect();
        let blocks: Vec<Vec<f64>> = starts
            .par_iter()
            .map(|start| {
                let rows = ROWS.min(n - start);
                let mut block = self.rows_as_columns(*start, rows);
                then(&mut block, rows);
                block
            })
            .collect();
        let mut transposed = vec![0.; n * n];
        for (start, block) in starts.into_iter().zip(blocks) {
            let rows = ROWS.min(n - start);
            for (to, from) in transposed.chunks_exact_mut(n).zip(block.chunks_exact(rows)) {
                to[start..start + rows].copy_from_slice(from);
            }
        }
        transposed
    }

    /// (n, rows): the rows start.. of the product as columns.
    fn rows_as_columns(&self, start: usize, rows: usize) -> Vec<f64> {
        let mut block = vec![0.; self.size * rows];
        for row in 0..rows {
            block[(start + row) * rows + row] = 1.;
        }
        let mut products = vec![0.; rows];
        for reflection in &self.reflections {
            products.fill(0.);
            let part = &mut block[reflection.first * rows..];
            for (values, v) in part.chunks_exact(rows).zip(&reflection.vector) {
                for (sum, value) in products.iter_mut().zip(values) {
                    *sum += v * value;
                }
            }
            for (values, v) in part.chunks_exact_mut(rows).zip(&reflection.vector) {
                let factor = reflection.beta * v;
                for (value, product) in values.iter_mut().zip(&products) {
                    *value -= factor * product;
                }
            }
        }
        block
    }
}

/// A random orthogonal matrix (C, C), row-major, uniform over all of them (Haar's measure): the same for the same
/// width and seed.
///
/// Stewart 1980, "The efficient generation of random orthogonal matrices": the reflections and signs by which
/// Householder's QR decomposition would take a matrix of normals to one with a positive diagonal.
///
/// # Errors
/// A width of 0.
pub fn random_orthogonal(width: usize, seed: u64) -> Result<Vec<f64>, AdaptError> {
    if width == 0 {
        return Err(check::no_width());
    }
    let key = RandomKey { seed, step: 0 };
    let mut reflections = Reflections::new(width);
    let mut signs = Vec::with_capacity(width);
    for column in 0..width {
        let mut rng = key.rng(column as u32, Purpose::RandomBasis);
        let mut vector: Vec<f64> = (column..width)
            .map(|_| StandardNormal.sample(&mut rng))
            .collect();
        let sign = 1f64.copysign(vector[0]);
        if column + 1 == width {
            signs.push(sign);
            break;
        }
        // Takes the normals to (-sign |x|, 0, 0, ...).
        signs.push(-sign);
        let square: f64 = vector.iter().map(|v| v * v).sum();
        vector[0] += sign * square.sqrt();
        let square: f64 = vector.iter().map(|v| v * v).sum();
        reflections.push(vector, 2. / square);
    }
    // The transpose of Haar's measure is Haar's measure.
    let mut basis = reflections.transposed(|_, _| ());
    for (row, sign) in basis.chunks_exact_mut(width).zip(signs) {
        row.iter_mut().for_each(|value| *value *= sign);
    }
    Ok(basis)
}
