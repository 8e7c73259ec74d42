//! Inner products, block by block, and orders in which equal values go by index.

use std::cmp::Ordering;
use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::Error;
use crate::embeddings::Rows;
use crate::product::{Packed, Products, pieces};

/// Rows of queries whose scores a thread holds at once.
const ROWS: usize = 256;
/// Scores that a thread holds at most, but for a gallery so large that one row of queries has more: 64 MiB.
const SCORES: usize = 1 << 24;
/// Rows of the gallery that are multiplied at once.
const BLOCK: usize = 512;

/// Calls `each(i, scores)` for every row `i` of `queries` with its inner products with all rows of
/// `gallery`, and returns what it returned in the order of the rows.
pub(crate) fn for_each_query<R: Send>(
    queries: &Rows,
    gallery: &Rows,
    each: impl Fn(usize, &[f32]) -> R + Sync,
) -> Vec<R> {
    let (n, d) = (gallery.n, gallery.d);
    let blocks: Vec<Range<usize>> = pieces(n, BLOCK).collect();
    let packed = |block: &Range<usize>| {
        let mut packed = Packed::default();
        packed.right(&gallery.values[block.start * d..block.end * d], d, None);
        packed
    };
    let packed: Vec<Packed> = blocks.par_iter().map(packed).collect();
    let rows = (SCORES / n).clamp(1, ROWS);
    let tasks: Vec<Range<usize>> = pieces(queries.n, rows).collect();
    let results: Vec<Vec<R>> = tasks
        .into_par_iter()
        .map_init(
            || (Packed::default(), Products::default(), Vec::new()),
            |(asking, products, scores), task| {
                asking.left(&queries.values[task.start * d..task.end * d], d, None);
                scores.resize(task.len() * n, 0.);
                for (block, packed) in blocks.iter().zip(&packed) {
                    for (part, first) in asking.parts(ROWS) {
                        // (rows, D) x (D, columns) -> (rows, columns), then into its place in (rows, N)
                        products.compute(asking, part, packed);
                        let wide = scores.chunks_exact_mut(n).skip(first);
                        for (wide, row) in wide.zip(products.rows()) {
                            wide[block.clone()].copy_from_slice(row);
                        }
                    }
                }
                let scores = scores.chunks_exact(n);
                task.zip(scores)
                    .map(|(row, scores)| each(row, scores))
                    .collect()
            },
        )
        .collect();
    results.into_iter().flatten().collect()
}

/// The values of an f32 tensor in the order of its shape.
pub(crate) fn flat(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// Higher scores first, equal ones by index.
pub(crate) fn by_score(scores: &[f32]) -> impl Fn(&usize, &usize) -> Ordering + '_ {
    // -0 becomes 0, which it is equal to.
    |a, b| {
        (scores[*b] + 0.)
            .total_cmp(&(scores[*a] + 0.))
            .then(a.cmp(b))
    }
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
