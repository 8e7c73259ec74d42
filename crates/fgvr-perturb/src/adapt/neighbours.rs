//! Images that are among each other's nearest, and what such pairs differ by.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::nuisance::at_least_two;
use super::symmetric_sum::OuterProducts;
use super::{AdaptError, check};

/// Queries and candidates whose similarities are held at once: fixed, so that no result depends on the machine, and
/// memory stays bounded however many images there are.
const QUERIES: usize = 256;
const CANDIDATES: usize = 16_384;

/// The pairs (i, j), i < j, of rows of `features` (N, C) that are among each other's `k` nearest by cosine
/// similarity, in ascending order.
///
/// Each pair stands once, and nothing follows from two pairs that share a row. The search is exact: every row is
/// compared with every other, by products of f32. Equally similar rows are taken by index; a row of zeros is equally
/// similar to all. With `k` of N - 1 or more all rows are neighbours of all.
///
/// # Errors
/// Fewer than two rows, a length that is no multiple of C, values that are not finite, a `k` of 0.
pub fn mutual_neighbours(
    features: &[f32],
    width: usize,
    k: usize,
) -> Result<Vec<(u32, u32)>, AdaptError> {
    const OP: &str = "mutual_neighbours";
    let n = check::finite_rows(OP, "features", features, width)?;
    at_least_two(OP, "features", n)?;
    if k == 0 {
        return Err(AdaptError::Config {
            field: "k",
            value: "0".to_owned(),
            expected: "at least 1".to_owned(),
        });
    }
    if u32::try_from(n).is_err() {
        return Err(AdaptError::Length {
            op: OP,
            name: "features",
            found: features.len(),
            expected: format!("at most {} rows", u32::MAX),
        });
    }
    let nearest = nearest(features, width, n, k.min(n - 1))?;
    let among = |i: u32, j: u32| nearest[j as usize].iter().any(|near| near.index == i);
    let mut pairs = Vec::new();
    for (i, near) in (0u32..).zip(&nearest) {
        let mut later: Vec<u32> = near.iter().map(|near| near.index).collect();
        later.retain(|j| i < *j && among(i, *j));
        later.sort_unstable();
        pairs.extend(later.into_iter().map(|j| (i, j)));
    }
    Ok(pairs)
}

/// Σ_n (C, C), the mean over `pairs` of half the outer product of d = f_i - f_j, row-major. `features` (N, C) are those
/// as they are, before any whitening.
///
/// The sum is in the order of the pairs, with the same bits on any number of threads.
///
/// # Errors
/// No pairs, pairs of rows that are not there, and what [`mutual_neighbours`] refuses of features.
pub fn neighbour_covariance(
    features: &[f32],
    width: usize,
    pairs: &[(u32, u32)],
) -> Result<Vec<f64>, AdaptError> {
    const OP: &str = "neighbour_covariance";
    let n = check::finite_rows(OP, "features", features, width)?;
    if pairs.is_empty() {
        return Err(AdaptError::Empty {
            op: OP,
            name: "pairs",
        });
    }
    let row = |i: u32| features.chunks_exact(width).nth(i as usize);
    let mut sum = OuterProducts::new(width);
    for pair in pairs {
        let (Some(a), Some(b)) = (row(pair.0), row(pair.1)) else {
            return Err(AdaptError::Pair {
                pair: *pair,
                rows: n,
            });
        };
        sum.push(a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)))?;
    }
    Ok(sum.dense(0.5 / pairs.len() as f64)?)
}

/// A row near to another.
#[derive(Clone, Copy)]
struct Near {
    index: u32,
    similarity: f32,
}

/// For each of `n` rows the `k` others that are nearest, nearest first.
fn nearest(
    features: &[f32],
    width: usize,
    n: usize,
    k: usize,
) -> Result<Vec<Vec<Near>>, AdaptError> {
    let unit = Tensor::from_vec(unit_rows(features, width), (n, width), &Device::Cpu)?;
    let mut all = Vec::with_capacity(n);
    for query in (0..n).step_by(QUERIES) {
        let queries = unit.narrow(0, query, QUERIES.min(n - query))?;
        let mut lists = vec![Vec::with_capacity(k + 1); queries.dim(0)?];
        for start in (0..n).step_by(CANDIDATES) {
            let candidates = unit.narrow(0, start, CANDIDATES.min(n - start))?;
            // (queries, C) x (C, candidates)
            let similarities = queries.matmul(&candidates.t()?)?;
            let similarities = similarities.flatten_all()?.to_vec1::<f32>()?;
            let rows = similarities.par_chunks(candidates.dim(0)?);
            rows.zip(&mut lists)
                .enumerate()
                .for_each(|(at, (row, list))| {
                    for (index, similarity) in (start..).zip(row) {
                        if index != query + at {
                            let (index, similarity) = (index as u32, *similarity);
                            insert(list, k, Near { index, similarity });
                        }
                    }
                });
        }
        all.extend(lists);
    }
    Ok(all)
}

/// Puts `near` in its place in the `list` of at most `k`. Indices come in ascending order, so that of equally similar
/// rows the first one stays in front.
fn insert(list: &mut Vec<Near>, k: usize, near: Near) {
    if list.len() == k && list[k - 1].similarity >= near.similarity {
        return;
    }
    let at = list.partition_point(|other| other.similarity >= near.similarity);
    list.insert(at, near);
    list.truncate(k);
}

/// Each row divided by its length; a row of zeros stays.
fn unit_rows(features: &[f32], width: usize) -> Vec<f32> {
    let mut unit = features.to_vec();
    unit.par_chunks_mut(width).for_each(|row| {
        let square: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
        let norm = square.sqrt();
        if norm > 0. {
            row.iter_mut()
                .for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
    });
    unit
}
