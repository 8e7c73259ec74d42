//! The same on plain values, for features that are no candle tensors: of burn, tch, ndarray, or read from a file.
//!
//! Rows of features stand one after another, as ndarray's standard layout and NumPy's default order have them. What
//! takes features with labels, such as [`knn`](crate::knn()) and [`linear_probe`](crate::linear_probe), takes
//! [`Embeddings::from_slice`].
//!
//! ```
//! use fgvr_eval::slices;
//!
//! let (first, second) = ([1., 0., 0., 1.], [0.9, 0.1, 0.2, 0.8]); // two views of two images, (N, D) = (2, 2)
//! assert_eq!(slices::pair_ranks(&first, &second, 2)?, [1, 1]);
//! # Ok::<(), fgvr_eval::Error>(())
//! ```

use crate::embeddings::{Rows, all_finite, check_rows};
use crate::nearest::{self as nearest_rows, Side};
use crate::{Embeddings, Error, KnnConfig, KnnPrediction, Nearest, PartHit, Similarity};
use crate::{effective_rank as rank, hypersphere, knn, pairs, part_hit as parts_of};

/// [`knn_predictions`](crate::knn_predictions) for `queries` (N, D) of the width of `train`.
///
/// # Errors
/// As there, and queries that are no whole rows.
pub fn knn_predictions(
    train: &Embeddings,
    queries: &[f32],
    cfg: &KnnConfig,
) -> Result<Vec<KnnPrediction>, Error> {
    let width = train.features.dims().last().copied().unwrap_or(0);
    let queries = Rows::of_slice(knn::OP, "queries", queries, width)?;
    knn::predictions_of_rows(train, queries, cfg)
}

/// [`pair_ranks`](crate::pair_ranks()) of rows of `width`.
///
/// # Errors
/// Values that are no whole rows, lengths that differ, values that are not finite.
pub fn pair_ranks(queries: &[f32], gallery: &[f32], width: usize) -> Result<Vec<usize>, Error> {
    let asking = Rows::of_slice(pairs::PAIR_RANKS, "queries", queries, width)?;
    let asked = Rows::of_slice(pairs::PAIR_RANKS, "gallery", gallery, width)?;
    pairs::ranks_of_rows(asking, asked)
}

/// [`nearest`](crate::nearest()) of rows of `width`; neither set is copied.
///
/// # Errors
/// Values that are no whole rows or not finite, a `k` of 0, a gallery of 2^32 rows or more.
pub fn nearest(
    queries: &[f32],
    gallery: &[f32],
    width: usize,
    k: usize,
    similarity: Similarity,
) -> Result<Nearest, Error> {
    check_rows(nearest_rows::OP, "queries", queries, width)?;
    check_rows(nearest_rows::OP, "gallery", gallery, width)?;
    let side = |values| Side::of(values, width, similarity);
    nearest_rows::from_gallery(&side(queries), &side(gallery), k)
}

/// [`nearest_in_set`](crate::nearest_in_set) of rows of `width`.
///
/// # Errors
/// Values that are no whole rows or not finite, a `k` of 0, a set of one row or of 2^32 or more.
pub fn nearest_in_set(
    set: &[f32],
    width: usize,
    k: usize,
    similarity: Similarity,
) -> Result<Nearest, Error> {
    check_rows(nearest_rows::OP, "set", set, width)?;
    nearest_rows::in_set(&Side::of(set, width, similarity), k)
}

/// [`neighbour_agreement`](crate::neighbour_agreement()) of rows of `width`.
///
/// # Errors
/// Values that are no whole rows, another number of them in `second`, values that are not finite, a `k` of 0.
pub fn neighbour_agreement(
    first: &[f32],
    second: &[f32],
    gallery: &[f32],
    width: usize,
    k: usize,
) -> Result<Vec<f64>, Error> {
    let pair = [
        Rows::of_slice(pairs::AGREEMENT, "first", first, width)?,
        Rows::of_slice(pairs::AGREEMENT, "second", second, width)?,
    ];
    let gallery = Rows::of_slice(pairs::AGREEMENT, "gallery", gallery, width)?;
    pairs::agreement_of_rows(pair, gallery, k)
}

/// [`effective_rank`](crate::effective_rank()) of rows of `width`.
///
/// # Errors
/// Values that are no whole rows, or not finite.
pub fn effective_rank(embeddings: &[f32], width: usize) -> Result<f64, Error> {
    rank::of_rows(&Rows::of_slice(rank::OP, "embeddings", embeddings, width)?)
}

/// [`embedding_std`](crate::embedding_std) of rows of `width`.
///
/// # Errors
/// Values that are no whole rows, or not finite.
pub fn embedding_std(embeddings: &[f32], width: usize) -> Result<f64, Error> {
    let rows = Rows::of_slice(hypersphere::STD, "embeddings", embeddings, width)?;
    Ok(hypersphere::std_of_rows(rows))
}

/// [`alignment`](crate::alignment) of rows of `width`.
///
/// # Errors
/// Values that are no whole rows, lengths that differ, an alpha that is not above 0, values that are not finite.
pub fn alignment(x: &[f32], y: &[f32], width: usize, alpha: f64) -> Result<f64, Error> {
    let x = Rows::of_slice(hypersphere::ALIGNMENT, "x", x, width)?;
    let y = Rows::of_slice(hypersphere::ALIGNMENT, "y", y, width)?;
    hypersphere::alignment_of_rows(x, y, alpha)
}

/// [`uniformity`](crate::uniformity) of rows of `width`.
///
/// # Errors
/// Values that are no whole rows, fewer than two, a t that is not above 0, values that are not finite.
pub fn uniformity(embeddings: &[f32], width: usize, t: f64) -> Result<f64, Error> {
    let rows = Rows::of_slice(hypersphere::UNIFORMITY, "embeddings", embeddings, width)?;
    hypersphere::uniformity_of_rows(rows, t)
}

/// [`part_hit`](crate::part_hit()) of a map of the shape (N, C, h, w), a mask (N, C) and parts (N, H, W), of which
/// `size` is (H, W).
///
/// # Errors
/// Lengths that do not fit, a dimension of zero, values that are not finite or out of range, and a batch in which no
/// image counts.
pub fn part_hit(
    map: &[f32],
    shape: [usize; 4],
    mask: &[bool],
    parts: &[f32],
    size: (usize, usize),
) -> Result<PartHit, Error> {
    let [n, c, h, w] = shape;
    of_shape("map", map.len(), &shape)?;
    of_shape("mask", mask.len(), &[n, c])?;
    of_shape("parts", parts.len(), &[n, size.0, size.1])?;
    all_finite(parts_of::OP, "map", map, c * h * w)?;
    all_finite(parts_of::OP, "parts", parts, size.0 * size.1)?;
    parts_of::of_values(map, shape, mask, parts, size)
}

/// An error unless `found` values have the shape, and there is one.
fn of_shape(name: &'static str, found: usize, shape: &[usize]) -> Result<(), Error> {
    let count = shape
        .iter()
        .try_fold(1usize, |count, side| count.checked_mul(*side));
    if found > 0 && count == Some(found) {
        return Ok(());
    }
    Err(Error::Length {
        op: parts_of::OP,
        name,
        found,
        expected: format!("those of {shape:?}, no dimension empty"),
    })
}
