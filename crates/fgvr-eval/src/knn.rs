//! Weighted k-nearest-neighbour classification.

use std::collections::BTreeMap;

use crate::embeddings::shape;
use crate::ranking::{for_each_query, highest};
use crate::{Embeddings, Error};

/// How neighbours vote.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct KnnConfig {
    /// Number of neighbours; fewer if the training set is smaller.
    pub k: usize,
    /// T: a neighbour of cosine similarity s votes with weight exp(s / T). The classifier of
    /// arXiv:1805.01978 uses 0.07.
    pub temperature: f64,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self {
            k: 20,
            temperature: 0.07,
        }
    }
}

/// What the neighbours knew.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KnnReport {
    /// Fraction of test rows whose class got the most votes.
    pub top1: f64,
    /// Fraction of test rows whose class is among the five that got the most votes; a class without
    /// a vote is not among them.
    pub top5: f64,
    /// The number of neighbours that voted.
    pub k: usize,
    /// Number of test rows.
    pub queries: usize,
    /// Test rows of a class that no training row has; they count as wrong.
    pub unseen: usize,
}

/// Classifies the rows of `test` by their `k` nearest in `train` by cosine similarity.
///
/// Equally similar neighbours are taken by index; equally voted classes by number. A row of zeros is
/// equally similar to all.
///
/// # Errors
/// What [`Embeddings::new`] refuses, sets of different widths, and a configuration out of range.
pub fn knn(train: &Embeddings, test: &Embeddings, cfg: &KnnConfig) -> Result<KnnReport, Error> {
    let places = places(train, test, cfg)?;
    let within = |limit: usize| {
        let hits = places
            .iter()
            .filter(|place| place.is_some_and(|place| place < limit));
        hits.count() as f64 / places.len() as f64
    };
    let known: std::collections::BTreeSet<u32> = train.labels.iter().copied().collect();
    Ok(KnnReport {
        top1: within(1),
        top5: within(5),
        k: cfg.k.min(train.labels.len()),
        queries: places.len(),
        unseen: test
            .labels
            .iter()
            .filter(|label| !known.contains(label))
            .count(),
    })
}

/// For each row of `test` whether [`knn`] votes its class first.
///
/// # Errors
/// As [`knn`].
pub fn knn_hits(
    train: &Embeddings,
    test: &Embeddings,
    cfg: &KnnConfig,
) -> Result<Vec<bool>, Error> {
    let places = places(train, test, cfg)?;
    Ok(places.iter().map(|place| *place == Some(0)).collect())
}

/// For each row of `test` how many classes got more votes than its own; `None` for a class without a vote.
fn places(
    train: &Embeddings,
    test: &Embeddings,
    cfg: &KnnConfig,
) -> Result<Vec<Option<usize>>, Error> {
    const OP: &str = "knn";
    let config = |field, value: String, expected| Error::Config {
        op: OP,
        field,
        value,
        expected,
    };
    if cfg.k == 0 {
        return Err(config("k", "0".into(), "at least 1"));
    }
    if !(cfg.temperature.is_finite() && cfg.temperature > 0.) {
        return Err(config(
            "temperature",
            cfg.temperature.to_string(),
            "a value above 0",
        ));
    }
    let (mut gallery, mut queries) = (train.checked(OP, "train")?, test.checked(OP, "test")?);
    if gallery.d != queries.d {
        return Err(shape(
            OP,
            "test",
            &test.features,
            format!("(N, {})", gallery.d),
        ));
    }
    gallery.l2_normalise();
    queries.l2_normalise();
    let k = cfg.k.min(gallery.n);
    for_each_query(&queries, &gallery, |query, scores| {
        let neighbours = highest(scores, k);
        let top = f64::from(scores[neighbours[0]]);
        let mut votes: BTreeMap<u32, f64> = BTreeMap::new();
        for neighbour in neighbours {
            // Relative to the nearest, so that a low temperature cannot overflow.
            let weight = ((f64::from(scores[neighbour]) - top) / cfg.temperature).exp();
            *votes.entry(train.labels[neighbour]).or_default() += weight;
        }
        let mut ranked: Vec<(u32, f64)> = votes.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked
            .iter()
            .position(|(class, _)| *class == test.labels[query])
    })
}
