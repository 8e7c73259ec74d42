//! Two views of each image: whether they find each other, and whether they have the same neighbours.

use candle_core::Tensor;

use crate::embeddings::Rows;
use crate::nearest::{Side, from_gallery};
use crate::ranking::for_each_query;
use crate::{Error, Similarity};

pub(crate) const PAIR_RANKS: &str = "pair_ranks";
pub(crate) const AGREEMENT: &str = "neighbour_agreement";

/// For each row of `queries` (N, D) the rank of the same row of `gallery` (N, D) among all of the gallery by cosine
/// similarity: 1 where it is found first. Of equally similar rows the one that is asked for comes last, so that features
/// that are all equal find nothing.
///
/// # Errors
/// Tensors that are not (N, D), of different shapes, or with values that are not finite.
pub fn pair_ranks(queries: &Tensor, gallery: &Tensor) -> Result<Vec<usize>, Error> {
    let asking = Rows::of(PAIR_RANKS, "queries", queries)?;
    ranks_of_rows(asking, Rows::of(PAIR_RANKS, "gallery", gallery)?)
}

pub(crate) fn ranks_of_rows(mut asking: Rows, mut asked: Rows) -> Result<Vec<usize>, Error> {
    if (asking.n, asking.d) != (asked.n, asked.d) {
        let expected = format!("({}, {})", asking.n, asking.d);
        return Err(asked.unexpected(PAIR_RANKS, "gallery", expected));
    }
    asking.l2_normalise();
    asked.l2_normalise();
    Ok(for_each_query(&asking, &asked, |query, scores| {
        let ahead = scores.iter().filter(|score| **score >= scores[query]);
        ahead.count()
    }))
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
    let pair = [
        Rows::of(AGREEMENT, "first", first)?,
        Rows::of(AGREEMENT, "second", second)?,
    ];
    agreement_of_rows(pair, Rows::of(AGREEMENT, "gallery", gallery)?, k)
}

pub(crate) fn agreement_of_rows(
    [a, b]: [Rows; 2],
    gallery: Rows,
    k: usize,
) -> Result<Vec<f64>, Error> {
    if (a.n, a.d) != (b.n, b.d) {
        let expected = format!("({}, {})", a.n, a.d);
        return Err(b.unexpected(AGREEMENT, "second", expected));
    }
    if gallery.d != a.d {
        return Err(gallery.unexpected(AGREEMENT, "gallery", format!("(M, {})", a.d)));
    }
    if k == 0 {
        return Err(Error::Config {
            op: AGREEMENT,
            field: "k",
            value: "0".to_owned(),
            expected: "at least 1",
        });
    }
    let gallery = Side::new(&gallery, Similarity::Cosine);
    let nearest = |of: &Rows| from_gallery(&Side::new(of, Similarity::Cosine), &gallery, k);
    let (of_a, of_b) = (nearest(&a)?, nearest(&b)?);
    let shared = |query: usize| {
        let common = of_a
            .of(query)
            .filter(|(item, _)| of_b.of(query).any(|(other, _)| other == *item));
        common.count() as f64 / of_a.k as f64
    };
    Ok((0..a.n).map(shared).collect())
}
