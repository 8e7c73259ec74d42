//! Two views of each image: whether they find each other, and whether they have the same neighbours.

use candle_core::Tensor;

use crate::Error;
use crate::embeddings::{Rows, shape};
use crate::ranking::{for_each_query, highest};

/// For each row of `queries` (N, D) the rank of the same row of `gallery` (N, D) among all of the gallery by cosine
/// similarity: 1 where it is found first. Of equally similar rows the one that is asked for comes last, so that features
/// that are all equal find nothing.
///
/// # Errors
/// Tensors that are not (N, D), of different shapes, or with values that are not finite.
pub fn pair_ranks(queries: &Tensor, gallery: &Tensor) -> Result<Vec<usize>, Error> {
    const OP: &str = "pair_ranks";
    let asking = unit_rows(OP, "queries", queries)?;
    let asked = unit_rows(OP, "gallery", gallery)?;
    if (asking.n, asking.d) != (asked.n, asked.d) {
        let expected = format!("({}, {})", asking.n, asking.d);
        return Err(shape(OP, "gallery", gallery, expected));
    }
    for_each_query(&asking, &asked, |query, scores| {
        scores
            .iter()
            .filter(|score| **score >= scores[query])
            .count()
    })
}

/// For each row of `first` (N, D) and the same row of `second` (N, D), two parts of one image that share no pixel: the
/// share of the `k` nearest in `gallery` (M, D) that they have in common, in [0, 1]. By chance it is `k` / M.
///
/// # Errors
/// Tensors that are not (N, D) of one D, another number of rows in `second`, values that are not finite, a `k` of 0.
pub fn neighbour_agreement(
    first: &Tensor,
    second: &Tensor,
    gallery: &Tensor,
    k: usize,
) -> Result<Vec<f64>, Error> {
    const OP: &str = "neighbour_agreement";
    let (a, b) = (
        unit_rows(OP, "first", first)?,
        unit_rows(OP, "second", second)?,
    );
    let rows = unit_rows(OP, "gallery", gallery)?;
    if (a.n, a.d) != (b.n, b.d) {
        let expected = format!("({}, {})", a.n, a.d);
        return Err(shape(OP, "second", second, expected));
    }
    if rows.d != a.d {
        return Err(shape(OP, "gallery", gallery, format!("(M, {})", a.d)));
    }
    if k == 0 {
        return Err(Error::Config {
            op: OP,
            field: "k",
            value: "0".to_owned(),
            expected: "at least 1",
        });
    }
    let k = k.min(rows.n);
    let nearest = |of: &Rows| for_each_query(of, &rows, |_, scores| highest(scores, k));
    let (of_a, of_b) = (nearest(&a)?, nearest(&b)?);
    let shared = |(a, b): (&Vec<usize>, &Vec<usize>)| {
        let common = a.iter().filter(|item| b.contains(item));
        common.count() as f64 / k as f64
    };
    Ok(of_a.iter().zip(&of_b).map(shared).collect())
}

fn unit_rows(op: &'static str, name: &'static str, tensor: &Tensor) -> Result<Rows, Error> {
    let mut rows = Rows::of(op, name, tensor)?;
    rows.l2_normalise();
    Ok(rows)
}
