//! Exact nearest neighbours: products block by block, of which only the best are kept.

mod in_set;

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

pub(crate) use self::in_set::in_set;
use crate::Error;
use crate::best::Best;
use crate::embeddings::{Rows, lengths};
use crate::product::{Packed, Products, pieces};

pub(crate) const OP: &str = "nearest";

/// Rows of the two sides of a product, which both fit the cache.
const BLOCK: usize = 512;
/// Rows of queries for which a piece of the gallery is normalised once.
const GROUP: usize = 4096;
/// Rows of queries whose candidates are held at once.
const WAVE: usize = 16_384;
/// Rows of the gallery that one task goes through.
const SPAN: usize = 16_384;
/// Tasks that there should be at least, so that no thread is idle for long.
const TASKS: usize = 32;

/// How alike two rows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Similarity {
    /// The cosine of the angle between them. A row of zeros is equally similar, 0, to all.
    #[default]
    Cosine,
    /// Their inner product.
    InnerProduct,
}

/// The nearest rows of a gallery for each query, the nearest first and equally near ones by index.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Nearest {
    /// How many there are for each query: `k`, or all of a smaller gallery.
    pub k: usize,
    /// Their rows in the gallery, (N, k).
    pub rows: Vec<u32>,
    /// Their similarity to the query, (N, k).
    pub similarities: Vec<f32>,
}

impl Nearest {
    /// (row, similarity) of the neighbours of a query; none past the last query.
    pub fn of(&self, query: usize) -> impl ExactSizeIterator<Item = (usize, f32)> + '_ {
        let range = query * self.k..(query + 1) * self.k;
        let rows = self.rows.get(range.clone()).unwrap_or_default();
        let similarities = self.similarities.get(range).unwrap_or_default();
        let pairs = rows.iter().zip(similarities);
        pairs.map(|(row, similarity)| (*row as usize, *similarity))
    }

    fn new(k: usize, queries: usize) -> Self {
        Self {
            k,
            rows: Vec::with_capacity(queries * k),
            similarities: Vec::with_capacity(queries * k),
        }
    }

    fn extend(&mut self, queries: impl IntoIterator<Item = Vec<(u32, f32)>>) {
        for (row, similarity) in queries.into_iter().flatten() {
            self.rows.push(row);
            self.similarities.push(similarity);
        }
    }
}

/// The `k` nearest rows of `gallery` (M, D) for each row of `queries` (N, D), exactly: no pair is left out. All cores work;
/// their number changes no bit. Besides both sets and the result it takes 16 `k` bytes for each of 16,384 queries and
/// 16,384 rows of the gallery, and some MiB for each thread.
///
/// # Errors
/// Tensors that are not (N, D) of one D, values that are not finite, a `k` of 0, a gallery of 2^32 rows or more.
pub fn nearest(
    queries: &Tensor,
    gallery: &Tensor,
    k: usize,
    similarity: Similarity,
) -> Result<Nearest, Error> {
    let queries = Rows::of(OP, "queries", queries)?;
    let gallery = Rows::of(OP, "gallery", gallery)?;
    let (queries, gallery) = (
        Side::new(&queries, similarity),
        Side::new(&gallery, similarity),
    );
    from_gallery(&queries, &gallery, k)
}

/// The `k` nearest other rows of `set` (N, D) for each of its rows. Each product is computed once and serves both rows.
///
/// # Errors
/// As [`nearest`], and a set of one row.
pub fn nearest_in_set(set: &Tensor, k: usize, similarity: Similarity) -> Result<Nearest, Error> {
    let rows = Rows::of(OP, "set", set)?;
    in_set(&Side::new(&rows, similarity), k)
}

/// Rows that are compared: as they are, or each over its length.
pub(crate) struct Side<'a> {
    values: &'a [f32],
    d: usize,
    /// The length of each row; none where rows are compared as they are.
    lengths: Option<Vec<f64>>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(rows: &'a Rows, similarity: Similarity) -> Self {
        Self::of(&rows.values, rows.d, similarity)
    }

    /// Rows of `d` finite values.
    pub(crate) fn of(values: &'a [f32], d: usize, similarity: Similarity) -> Self {
        let lengths = match similarity {
            Similarity::Cosine => Some(lengths(values, d)),
            Similarity::InnerProduct => None,
        };
        Self { values, d, lengths }
    }

    pub(crate) fn n(&self) -> usize {
        self.values.len() / self.d
    }

    /// Values of some rows, and their lengths.
    fn rows(&self, rows: &Range<usize>) -> (&[f32], Option<&[f64]>) {
        let values = &self.values[rows.start * self.d..rows.end * self.d];
        let lengths = self.lengths.as_ref();
        (values, lengths.map(|lengths| &lengths[rows.clone()]))
    }

    /// Some rows as the left side of a product.
    fn left(&self, rows: &Range<usize>) -> Packed {
        let (values, lengths) = self.rows(rows);
        let mut packed = Packed::default();
        packed.left(values, self.d, lengths);
        packed
    }

    /// Some rows as the right side, in place of what is there.
    fn right(&self, rows: &Range<usize>, packed: &mut Packed) {
        let (values, lengths) = self.rows(rows);
        packed.right(values, self.d, lengths);
    }
}

fn check(k: usize, rows: usize) -> Result<(), Error> {
    let config = |field, value: String, expected| Error::Config {
        op: OP,
        field,
        value,
        expected,
    };
    if k == 0 {
        return Err(config("k", "0".to_owned(), "at least 1"));
    }
    if u32::try_from(rows).is_err() {
        return Err(config("rows", rows.to_string(), "fewer than 2^32"));
    }
    Ok(())
}

pub(crate) fn from_gallery(
    queries: &Side<'_>,
    gallery: &Side<'_>,
    k: usize,
) -> Result<Nearest, Error> {
    if queries.d != gallery.d {
        return Err(Error::Shape {
            op: OP,
            name: "queries",
            found: vec![queries.n(), queries.d],
            expected: format!("(N, {})", gallery.d),
        });
    }
    check(k, gallery.n())?;
    let k = k.min(gallery.n());
    let mut found = Nearest::new(k, queries.n());
    let spans: Vec<Range<usize>> = pieces(gallery.n(), SPAN).collect();
    for wave in pieces(queries.n(), WAVE) {
        // As large as leaves enough tasks: by the sizes alone, so that no bit depends on the machine.
        let wanted = TASKS.div_ceil(spans.len());
        let group = wave.len().div_ceil(wanted).clamp(BLOCK, GROUP);
        let groups: Vec<Range<usize>> = pieces(wave.len(), group)
            .map(|group| wave.start + group.start..wave.start + group.end)
            .collect();
        let tasks: Vec<(usize, usize)> = (0..groups.len())
            .flat_map(|group| (0..spans.len()).map(move |span| (group, span)))
            .collect();
        let parts: Vec<Best> = tasks
            .into_par_iter()
            .map(|(group, span)| task(queries, gallery, &groups[group], &spans[span], k))
            .collect();
        let mut parts = parts.into_iter();
        for _ in &groups {
            // The spans of a group follow one another.
            let of_group: Vec<Best> = parts.by_ref().take(spans.len()).collect();
            let merged = of_group.into_iter().reduce(|mut all, part| {
                all.merge(part);
                all
            });
            merged
                .into_iter()
                .for_each(|best| found.extend(best.into_sorted()));
        }
    }
    Ok(found)
}

/// The best of a span of the gallery for a group of queries.
fn task(
    queries: &Side<'_>,
    gallery: &Side<'_>,
    group: &Range<usize>,
    span: &Range<usize>,
    k: usize,
) -> Best {
    let mut best = Best::new(group.len(), k);
    let asking = queries.left(group);
    let (mut asked, mut products) = (Packed::default(), Products::default());
    for piece in pieces(span.len(), BLOCK) {
        let piece = span.start + piece.start..span.start + piece.end;
        gallery.right(&piece, &mut asked);
        for (part, first) in asking.parts(BLOCK) {
            products.compute(&asking, part, &asked);
            for (row, scores) in (first..).zip(products.rows()) {
                best.offer(row, scores, piece.start, None);
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
