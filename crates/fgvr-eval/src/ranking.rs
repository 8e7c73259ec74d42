//! Inner products, block by block, and orders in which equal values go by index.

use std::cmp::Ordering;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::Error;
use crate::embeddings::Rows;

/// Rows of queries whose scores are held at once: fixed, so that no result depends on the machine.
const BLOCK: usize = 256;

/// Calls `each(i, scores)` for every row `i` of `queries` with its inner products with all rows of
/// `gallery`, and returns what it returned in the order of the rows.
pub(crate) fn for_each_query<R: Send>(
    queries: &Rows,
    gallery: &Rows,
    each: impl Fn(usize, &[f32]) -> R + Sync,
) -> Result<Vec<R>, Error> {
    let transposed = gallery.tensor()?.t()?;
    let queries_tensor = queries.tensor()?;
    let mut results = Vec::with_capacity(queries.n);
    for start in (0..queries.n).step_by(BLOCK) {
        let rows = BLOCK.min(queries.n - start);
        // (rows, D) x (D, N) -> (rows, N)
        let scores = queries_tensor.narrow(0, start, rows)?.matmul(&transposed)?;
        let scores = flat(&scores)?;
        let block: Vec<R> = scores
            .par_chunks(gallery.n)
            .enumerate()
            .map(|(row, scores)| each(start + row, scores))
            .collect();
        results.extend(block);
    }
    Ok(results)
}

/// The values of an f32 tensor in the order of its shape.
pub(crate) fn flat(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Higher scores first, equal ones by index.
pub(crate) fn by_score(scores: &[f32]) -> impl Fn(&usize, &usize) -> Ordering + '_ {
    |a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b))
}

/// The indices of the `k` highest scores (1 <= k <= len), highest first.
pub(crate) fn highest(scores: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    if k < order.len() {
        order.select_nth_unstable_by(k, by_score(scores));
        order.truncate(k);
    }
    order.sort_unstable_by(by_score(scores));
    order
}
