//! Retrieval from one set by queries of another.

use crate::ranking::for_each_query;
use crate::retrieval::{evaluate, items_of_classes};
use crate::{Embeddings, Error, Ranked, RetrievalConfig, RetrievalReport};

const OP: &str = "cross_retrieval";

/// Each item of `queries` asks for all items of its class in `database`, which are ranked by similarity; equally
/// similar ones by index. The precision at a place does not depend on what follows it, so a class with few images in
/// the database weighs as much as another.
///
/// # Errors
/// What [`Embeddings::new`] refuses, sets of different widths, and queries of which none has a class of the
/// database.
pub fn cross_retrieval(
    database: &Embeddings,
    queries: &Embeddings,
    cfg: &RetrievalConfig,
) -> Result<RetrievalReport, Error> {
    let ranked = cross_retrieval_ranks(database, queries, cfg)?;
    if ranked.iter().all(Option::is_none) {
        let reason = format!(
            "no class of the {} queries is in the database",
            ranked.len()
        );
        return Err(Error::Nothing { op: OP, reason });
    }
    RetrievalReport::of(&ranked)
}

/// What [`cross_retrieval`] counts, query by query; none for one whose class the database does not have.
///
/// # Errors
/// What [`Embeddings::new`] refuses, and sets of different widths.
pub fn cross_retrieval_ranks(
    database: &Embeddings,
    queries: &Embeddings,
    cfg: &RetrievalConfig,
) -> Result<Vec<Option<Ranked>>, Error> {
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
    let classes = items_of_classes(&database.labels);
    Ok(for_each_query(&asking, &gallery, |query, scores| {
        let label = queries.labels[query];
        let relevant = classes.get(&label)?.clone();
        Some(evaluate(label, &database.labels, scores, relevant))
    }))
}
