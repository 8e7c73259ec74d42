//! How many dimensions embeddings really use.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::Error;
use crate::embeddings::Rows;
use crate::scaling::ROUNDING;

pub(crate) const OP: &str = "effective_rank";

/// The exponential of the entropy of the covariance's normalised eigenvalues: D for embeddings (N, D)
/// that spread evenly over all dimensions, 1 for a line, 0 for embeddings that are all equal (to f32's
/// rounding).
///
/// After Roy and Vetterli 2007, "The effective rank".
///
/// # Differs
/// Their entropy is of the singular values; this one is of the eigenvalues of the covariance, that is of
/// the squared singular values of the centred embeddings: shares of variance. It is never larger.
///
/// # Cost
/// In the order of min(N, D)^3: the smaller of the covariance (D, D) and the Gram matrix (N, N) is decomposed,
/// as both have the same eigenvalues but for zeros.
///
/// # Errors
/// A tensor that is not (N, D), empty ones, and values that are not finite.
pub fn effective_rank(embeddings: &Tensor) -> Result<f64, Error> {
    of_rows(&Rows::of(OP, "embeddings", embeddings)?)
}

pub(crate) fn of_rows(rows: &Rows) -> Result<f64, Error> {
    let n = rows.n as f64;
    let mut mean = vec![0.; rows.d];
    for row in rows.values.chunks_exact(rows.d) {
        mean.iter_mut()
            .zip(row)
            .for_each(|(m, v)| *m += f64::from(*v) / n);
    }
    let centred: Vec<f64> = rows
        .values
        .chunks_exact(rows.d)
        .flat_map(|row| row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m))
        .collect();
    let variance = centred.iter().map(|v| v * v).sum::<f64>() / n;
    let centre: f64 = mean.iter().map(|m| m * m).sum();
    if variance <= ROUNDING * ROUNDING * centre {
        return Ok(0.);
    }
    let centred = Tensor::from_vec(centred, (rows.n, rows.d), &Device::Cpu)?;
    let (left, right) = if rows.d <= rows.n {
        (centred.t()?, centred)
    } else {
        (centred.clone(), centred.t()?)
    };
    let matrix = (left.matmul(&right)? / (n * variance))?;
    let size = matrix.dim(0)?;
    let shares = symmetric_eigenvalues(matrix.flatten_all()?.to_vec1()?, size)?;
    // The shares add up to 1, the trace; rounding may leave some just below 0.
    let entropy: f64 = shares
        .into_iter()
        .filter(|p| *p > 0.)
        .map(|p| -p * p.ln())
        .sum();
    Ok(entropy.exp())
}

/// Eigenvalues, in no order, of a symmetric matrix (n, n) given row by row.
///
/// Householder reflections make it tridiagonal, implicit QL steps then diagonal (Golub and Van Loan,
/// sections 8.3 and 8.5). Rows are handled in parallel and each on its own, so the number of threads does
/// not change the result.
fn symmetric_eigenvalues(mut matrix: Vec<f64>, n: usize) -> Result<Vec<f64>, Error> {
    let mut diagonal = vec![0.; n];
    let mut beside = vec![0.; n];
    // The last reflection's v and w, over indices k..: each row takes its update v w^T + w v^T when the
    // next step reads it, so that a step goes through the matrix once.
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
        pending = (v, w);
    }
    tridiagonal_eigenvalues(&mut diagonal, &mut beside)?;
    Ok(diagonal)
}

/// Turns `diagonal` into the eigenvalues; `beside[i]` stands between `diagonal[i]` and `[i + 1]`.
fn tridiagonal_eigenvalues(diagonal: &mut [f64], beside: &mut [f64]) -> Result<(), Error> {
    let n = diagonal.len();
    // An entry this small beside the largest changes no eigenvalue beyond rounding.
    let norm = diagonal
        .iter()
        .chain(beside.iter())
        .fold(0f64, |top, v| top.max(v.abs()));
    let negligible = f64::EPSILON * norm;
    for first in 0..n {
        let mut steps = 0;
        loop {
            let last = (first..n - 1)
                .find(|i| beside[*i].abs() <= negligible)
                .unwrap_or(n - 1);
            if last == first {
                break;
            }
            steps += 1;
            if steps > 100 {
                let reason = format!("eigenvalue {first} of {n} did not converge");
                return Err(Error::Nothing { op: OP, reason });
            }
            ql_step(diagonal, beside, first, last);
        }
    }
    Ok(())
}

/// One implicit QL step with Wilkinson's shift on the block `first..=last`.
fn ql_step(diagonal: &mut [f64], beside: &mut [f64], first: usize, last: usize) {
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
    }
    diagonal[first] -= carried;
    beside[first] = g;
    beside[last] = 0.;
}

/// In eight strands, fixed by the length, so that the compiler can use wide registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.; 8];
    let (a_parts, b_parts) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_parts
        .remainder()
        .iter()
        .zip(b_parts.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a_parts.zip(b_parts) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_of_known_matrices() {
        let sorted = |matrix: Vec<f64>, n| {
            let mut values = symmetric_eigenvalues(matrix, n).unwrap();
            values.sort_by(f64::total_cmp);
            values
        };
        assert_eq!(sorted(vec![3.], 1), [3.]);
        let close = |found: &[f64], expected: &[f64]| {
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-12, "{found:?}");
            }
        };
        close(&sorted(vec![2., 1., 1., 2.], 2), &[1., 3.]);
        close(
            &sorted(vec![2., -1., 0., -1., 2., -1., 0., -1., 2.], 3),
            &[2. - 2f64.sqrt(), 2., 2. + 2f64.sqrt()],
        );
        close(&sorted(vec![0.; 16], 4), &[0.; 4]);
        // All ones: n once, 0 otherwise.
        close(&sorted(vec![1.; 25], 5), &[0., 0., 0., 0., 5.]);
    }

    #[test]
    fn eigenvalues_of_a_discrete_laplacian_are_its_cosines() {
        let n = 200;
        let mut matrix = vec![0.; n * n];
        for i in 0..n {
            matrix[i * n + i] = 2.;
            if i + 1 < n {
                matrix[i * n + i + 1] = -1.;
                matrix[(i + 1) * n + i] = -1.;
            }
        }
        // Mixed by a reflection I - 2 u u^T, which keeps the eigenvalues and fills the matrix.
        let u: Vec<f64> = (0..n).map(|i| (i as f64 * 1.7).sin()).collect();
        let norm = dot(&u, &u).sqrt();
        let u: Vec<f64> = u.iter().map(|v| v / norm).collect();
        let au: Vec<f64> = matrix.chunks_exact(n).map(|row| dot(row, &u)).collect();
        let uau = dot(&u, &au);
        for i in 0..n {
            for j in 0..n {
                matrix[i * n + j] += -2. * (u[i] * au[j] + au[i] * u[j]) + 4. * uau * u[i] * u[j];
            }
        }
        let mut values = symmetric_eigenvalues(matrix, n).unwrap();
        values.sort_by(f64::total_cmp);
        for (k, value) in values.iter().enumerate() {
            let angle = (k + 1) as f64 * std::f64::consts::PI / (n + 1) as f64;
            assert!((value - (2. - 2. * angle.cos())).abs() < 1e-12, "{k}");
        }
    }
}
