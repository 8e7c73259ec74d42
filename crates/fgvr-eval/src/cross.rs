//! Retrieval from one set by queries of another.

use std::collections::BTreeMap;

use crate::ranking::for_each_query;
use crate::retrieval::evaluate;
use crate::{Embeddings, Error, RetrievalConfig};

const OP: &str = "cross_map";

/// What the queries found.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CrossReport {
    /// Mean over queries of the average precision, as in [`RetrievalReport::map`](crate::RetrievalReport::map).
    pub map: f64,
    /// Fraction of queries whose first result is of their class.
    pub rank1: f64,
    /// The average precision of each query; `None` for one whose class the database does not have.
    pub average_precision: Vec<Option<f64>>,
    /// Queries of a class that the database does not have: they ask nothing.
    pub left_out: usize,
}

/// Each item of `queries` asks for all items of its class in `database`, which are ranked by similarity; equally
/// similar ones by index. The precision at a place does not depend on what follows it, so a class with few images in
/// the database weighs as much as another.
///
/// # Errors
/// What [`Embeddings::new`] refuses, sets of different widths, and queries of which none has a class of the
/// database.
pub fn cross_map(
    database: &Embeddings,
    queries: &Embeddings,
    cfg: &RetrievalConfig,
) -> Result<CrossReport, Error> {
    let (mut gallery, mut asking) = (
        database.checked(OP, "database")?,
        queries.checked(OP, "queries")?,
    );
    if gallery.d != asking.d {
        return Err(asking.unexpected(OP, "queries", format!("(N, {})", gallery.d)));
    }
    if cfg.normalise {
        gallery.l2_normalise();
        asking.l2_normalise();
    }
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (item, label) in database.labels.iter().enumerate() {
        classes.entry(*label).or_default().push(item);
    }
    let found = for_each_query(&asking, &gallery, |query, scores| {
        let label = queries.labels[query];
        let relevant = classes.get(&label)?.clone();
        Some(evaluate(label, &database.labels, scores, relevant))
    })?;
    let answered: Vec<_> = found.iter().flatten().collect();
    if answered.is_empty() {
        let reason = format!("no class of the {} queries is in the database", found.len());
        return Err(Error::Nothing { op: OP, reason });
    }
    let n = answered.len() as f64;
    Ok(CrossReport {
        map: answered.iter().map(|f| f.average_precision).sum::<f64>() / n,
        rank1: answered.iter().filter(|f| f.first <= 1).count() as f64 / n,
        left_out: found.len() - answered.len(),
        average_precision: found
            .iter()
            .map(|found| found.as_ref().map(|found| found.average_precision))
            .collect(),
    })
}
