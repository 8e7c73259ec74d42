//! Eigenvalues and eigenvectors of a symmetric matrix, in f64.
//!
//! Householder reflections make it tridiagonal, implicit QL steps then diagonal (Golub and Van Loan, sections 8.3
//! and 8.5). Rows are handled in parallel and each on its own, so the number of threads changes no bit.

use rayon::prelude::*;

use super::AdaptError;
use super::orthogonal::Reflections;
use super::vectors::dot;

/// In no order.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    /// (n, n): row k is the eigenvector of value k, of length 1.
    pub(super) vectors: Vec<f64>,
}

/// A rotation of the entries (index, index + 1) of each row.
struct Rotation {
    index: usize,
    cosine: f64,
    sine: f64,
}

/// The eigenvalues, in no order, of a symmetric matrix (n, n).
pub(super) fn eigenvalues(matrix: Vec<f64>, n: usize) -> Result<Vec<f64>, AdaptError> {
    let mut tridiagonal = Tridiagonal::of(matrix, n, |_, _| ());
    tridiagonal.diagonalise(|_| ())?;
    Ok(tridiagonal.diagonal)
}

/// Eigenvalues and eigenvectors of a symmetric matrix (n, n).
pub(super) fn eigen(matrix: Vec<f64>, n: usize) -> Result<Eigen, AdaptError> {
    let mut reflections = Reflections::new(n);
    let mut tridiagonal = Tridiagonal::of(matrix, n, |v, beta| reflections.push(v, beta));
    let mut rotations = Vec::new();
    tridiagonal.diagonalise(|rotation| rotations.push(rotation))?;
    let vectors = reflections.transposed(|block, rows| {
        for Rotation {
            index,
            cosine,
            sine,
        } in &rotations
        {
            let (first, second) = block[index * rows..(index + 2) * rows].split_at_mut(rows);
            for (a, b) in first.iter_mut().zip(second) {
                (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
            }
        }
    });
    Ok(Eigen {
        values: tridiagonal.diagonal,
        vectors,
    })
}

struct Tridiagonal {
    diagonal: Vec<f64>,
    /// `beside[i]` stands between `diagonal[i]` and `diagonal[i + 1]`; the last is 0.
    beside: Vec<f64>,
}

impl Tridiagonal {
    /// H^T A H with H the product of the reflections that `keep` gets, in their order.
    fn of(mut matrix: Vec<f64>, n: usize, mut keep: impl FnMut(Vec<f64>, f64)) -> Self {
        let (mut diagonal, mut beside) = (vec![0.; n], vec![0.; n]);
        // The last reflection's v and w, over indices k..: each row takes its update v w^T + w v^T when the next
        // step reads it, so that a step goes through the matrix once.
        let mut pending = (vec![0.; n], vec![0.; n]);
        for k in 0..n {
            let (before, w) = &pending;
            let update = |row: &mut [f64], i: usize| {
                for ((a, v_j), w_j) in row[k..].iter_mut().zip(before).zip(w) {
                    *a -= before[i] * w_j + w[i] * v_j;
                }
            };
            let (row, rest) = matrix[k * n..].split_at_mut(n);
            update(row, 0);
            diagonal[k] = row[k];
            if k + 1 == n {
                break;
            }
            // The part of row k right of the diagonal becomes (alpha, 0, 0, ...).
            let mut v = row[k + 1..].to_vec();
            let norm = dot(&v, &v).sqrt();
            let alpha = if v[0] > 0. { -norm } else { norm };
            beside[k] = alpha;
            v[0] -= alpha;
            let square = dot(&v, &v);
            let beta = if square > 0. { 2. / square } else { 0. };
            let mut w: Vec<f64> = rest
                .par_chunks_mut(n)
                .with_min_len(64)
                .enumerate()
                .map(|(i, row)| {
                    update(row, i + 1);
                    beta * dot(&row[k + 1..], &v)
                })
                .collect();
            let share = beta / 2. * dot(&w, &v);
            w.iter_mut().zip(&v).for_each(|(w, v)| *w -= share * v);
            keep(v.clone(), beta);
            pending = (v, w);
        }
        Self { diagonal, beside }
    }

    /// Turns `diagonal` into the eigenvalues; `keep` gets every rotation in its order.
    fn diagonalise(&mut self, mut keep: impl FnMut(Rotation)) -> Result<(), AdaptError> {
        let n = self.diagonal.len();
        // An entry this small beside the largest changes no eigenvalue beyond rounding.
        let largest = self
            .diagonal
            .iter()
            .chain(&self.beside)
            .fold(0f64, |top, v| top.max(v.abs()));
        let negligible = f64::EPSILON * largest;
        for first in 0..n {
            let mut steps = 0;
            loop {
                let last = (first..n - 1)
                    .find(|i| self.beside[*i].abs() <= negligible)
                    .unwrap_or(n - 1);
                if last == first {
                    break;
                }
                steps += 1;
                if steps > 100 {
                    return Err(AdaptError::Eigenvalue {
                        index: first,
                        width: n,
                    });
                }
                self.ql_step(first, last, &mut keep);
            }
        }
        Ok(())
    }

    /// One implicit QL step with Wilkinson's shift on the block `first..=last`.
    fn ql_step(&mut self, first: usize, last: usize, keep: &mut impl FnMut(Rotation)) {
        let Self { diagonal, beside } = self;
        let half = (diagonal[first + 1] - diagonal[first]) / (2. * beside[first]);
        let shift = diagonal[first] - beside[first] / (half + half.hypot(1.).copysign(half));
        let mut g = diagonal[last] - shift;
        let (mut sine, mut cosine, mut carried) = (1., 1., 0.);
        for i in (first..last).rev() {
            let (f, b) = (sine * beside[i], cosine * beside[i]);
            let r = f64::hypot(f, g);
            beside[i + 1] = r;
            if r == 0. {
                // The block falls apart here; the next step takes up what is left.
                diagonal[i + 1] -= carried;
                beside[last] = 0.;
                return;
            }
            (sine, cosine) = (f / r, g / r);
            g = diagonal[i + 1] - carried;
            let turned = (diagonal[i] - g) * sine + 2. * cosine * b;
            carried = sine * turned;
            diagonal[i + 1] = g + carried;
            g = cosine * turned - b;
            keep(Rotation {
                index: i,
                cosine,
                sine,
            });
        }
        diagonal[first] -= carried;
        beside[first] = g;
        beside[last] = 0.;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matrix: &[f64], n: usize) -> Vec<f64> {
        let Eigen { values, vectors } = eigen(matrix.to_vec(), n).unwrap();
        let scale = matrix.iter().fold(1f64, |top, v| top.max(v.abs())) * n as f64;
        let row = |k: usize| &vectors[k * n..(k + 1) * n];
        for (k, value) in values.iter().enumerate() {
            // A u = value u, row by row of A.
            for (i, entries) in matrix.chunks_exact(n).enumerate() {
                let off = dot(entries, row(k)) - value * row(k)[i];
                assert!(off.abs() < 1e-14 * scale, "vector {k}: {off:e}");
            }
            for j in 0..n {
                let expected = f64::from(u8::from(j == k));
                assert!((dot(row(j), row(k)) - expected).abs() < 1e-13 * n as f64);
            }
        }
        let mut alone = eigenvalues(matrix.to_vec(), n).unwrap();
        assert_eq!(alone, values);
        alone.sort_by(f64::total_cmp);
        alone
    }

    #[test]
    fn vectors_are_orthonormal_and_belong_to_their_values() {
        assert_eq!(check(&[3.], 1), [3.]);
        check(&[2., 1., 1., 2.], 2);
        check(&[0.; 16], 4);
        // Diagonal already, with equal and negative values.
        check(&[-1., 0., 0., 0., -1., 0., 0., 0., 5.], 3);
        // Of rank one.
        let ones = check(&[1.; 25], 5);
        assert!((ones[4] - 5.).abs() < 1e-12 && ones[3].abs() < 1e-12);
        for n in [31, 32, 33, 97] {
            let value = |i: usize, j: usize| ((i * j + i + j) as f64 * 0.37).sin();
            let matrix: Vec<f64> = (0..n * n).map(|at| value(at / n, at % n)).collect();
            check(&matrix, n);
        }
    }

    #[test]
    fn eigenvalues_of_a_discrete_laplacian_are_its_cosines() {
        let n = 50;
        let entry = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 2.,
            1 => -1.,
            _ => 0.,
        };
        let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
        for (k, value) in check(&matrix, n).into_iter().enumerate() {
            let angle = (k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64;
            assert!((value - (2. - 2. * angle.cos())).abs() < 1e-12, "{k}");
        }
    }
}
