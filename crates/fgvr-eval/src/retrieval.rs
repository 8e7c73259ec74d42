//! Image retrieval: each item asks for the others of its class.

use std::collections::BTreeMap;

use crate::ranking::{by_score, for_each_query};
use crate::{Embeddings, Error};

const OP: &str = "retrieval";

/// How items are compared.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct RetrievalConfig {
    /// Compare L2-normalised features (cosine similarity, the default); without, plain inner products.
    pub normalise: bool,
}

impl Default for RetrievalConfig {
    fn default() -> Self {
        Self { normalise: true }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RetrievalReport {
    /// Fraction of queries whose first result is of their class.
    pub rank1: f64,
    /// Fraction of queries with one of their class among the first five results.
    pub rank5: f64,
    /// Fraction of queries with one of their class among the first ten results.
    pub rank10: f64,
    /// Mean over queries of the average precision `(1/n) sum_k k / r_k`, where `r_k` is the rank of the
    /// k-th of the n results of the query's class.
    pub map: f64,
    /// MAP@R (arXiv:2003.08505): as `map`, but with the first n results only.
    pub map_at_r: f64,
    /// R-precision: the share of the query's class among its first n results, mean over queries.
    pub r_precision: f64,
    /// Number of queries.
    pub queries: usize,
    /// Items that are alone in their class: they ask nothing, but can be found.
    pub left_out: usize,
}

/// Where one query's class stands among its results.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Ranked {
    /// The rank of the first result of its class, from 1 on.
    pub first: usize,
    /// Average precision over all results, as in [`RetrievalReport::map`].
    pub average_precision: f64,
    /// Average precision over the first n, as in [`RetrievalReport::map_at_r`].
    pub at_r: f64,
    /// The share of its class among the first n.
    pub r_precision: f64,
}

impl RetrievalReport {
    /// Means over the queries that ask for something.
    ///
    /// # Errors
    /// No such query.
    pub fn of(queries: &[Option<Ranked>]) -> Result<Self, Error> {
        let found: Vec<&Ranked> = queries.iter().flatten().collect();
        if found.is_empty() {
            let reason = format!(
                "none of the {} queries has an item of its class to find",
                queries.len()
            );
            return Err(Error::Nothing { op: OP, reason });
        }
        let mean = |of: &dyn Fn(&Ranked) -> f64| {
            found.iter().map(|f| of(f)).sum::<f64>() / found.len() as f64
        };
        Ok(Self {
            rank1: mean(&|f| f64::from(f.first <= 1)),
            rank5: mean(&|f| f64::from(f.first <= 5)),
            rank10: mean(&|f| f64::from(f.first <= 10)),
            map: mean(&|f| f.average_precision),
            map_at_r: mean(&|f| f.at_r),
            r_precision: mean(&|f| f.r_precision),
            queries: found.len(),
            left_out: queries.len() - found.len(),
        })
    }
}

/// Each item of `set` queries all others, which are ranked by similarity; equally similar ones by
/// index.
///
/// # Errors
/// What [`Embeddings::new`] refuses, and a set in which every item is alone in its class.
pub fn retrieval(set: &Embeddings, cfg: &RetrievalConfig) -> Result<RetrievalReport, Error> {
    let ranked = retrieval_ranks(set, cfg)?;
    if ranked.iter().all(Option::is_none) {
        let reason = format!("each of the {} items is alone in its class", ranked.len());
        return Err(Error::Nothing { op: OP, reason });
    }
    RetrievalReport::of(&ranked)
}

/// What [`retrieval`] counts, query by query; none for an item that is alone in its class.
///
/// # Errors
/// What [`Embeddings::new`] refuses.
pub fn retrieval_ranks(
    set: &Embeddings,
    cfg: &RetrievalConfig,
) -> Result<Vec<Option<Ranked>>, Error> {
    let mut rows = set.checked(OP, "set")?;
    if cfg.normalise {
        rows.l2_normalise();
    }
    let classes = items_of_classes(&set.labels);
    Ok(for_each_query(&rows, &rows, |query, scores| {
        let mut relevant = classes[&set.labels[query]].clone();
        relevant.retain(|item| *item != query);
        (!relevant.is_empty()).then(|| evaluate(set.labels[query], &set.labels, scores, relevant))
    }))
}

/// The items of each class, in their order.
pub(crate) fn items_of_classes(labels: &[u32]) -> BTreeMap<u32, Vec<usize>> {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (item, label) in labels.iter().enumerate() {
        classes.entry(*label).or_default().push(item);
    }
    classes
}

/// Ranks the items of `labels` for a query of the class `label`: the ranks of the `relevant` items without sorting the others: each of those is counted before the
/// first relevant item that it precedes.
pub(crate) fn evaluate(
    label: u32,
    labels: &[u32],
    scores: &[f32],
    mut relevant: Vec<usize>,
) -> Ranked {
    let order = by_score(scores);
    relevant.sort_unstable_by(&order);
    let n = relevant.len();
    let mut ahead = vec![0; n + 1];
    // Most items come after the last relevant one, which one comparison tells.
    let least = relevant.last().map_or(f32::INFINITY, |last| scores[*last]);
    for (item, score) in scores.iter().enumerate() {
        if *score >= least && labels[item] != label {
            ahead[relevant.partition_point(|other| order(other, &item).is_lt())] += 1;
        }
    }
    let mut found = Ranked {
        first: 0,
        average_precision: 0.,
        at_r: 0.,
        r_precision: 0.,
    };
    let mut others = 0;
    for (k, before) in ahead[..n].iter().enumerate() {
        others += before;
        let rank = k + 1 + others; // 1-based
        let precision = (k + 1) as f64 / rank as f64;
        found.average_precision += precision / n as f64;
        if rank <= n {
            found.at_r += precision / n as f64;
            found.r_precision += 1. / n as f64;
        }
        if k == 0 {
            found.first = rank;
        }
    }
    found
}
