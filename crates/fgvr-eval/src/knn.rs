//! Weighted k-nearest-neighbour classification.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::embeddings::Rows;
use crate::nearest::{Side, from_gallery};
use crate::{Embeddings, Error, Similarity};

pub(crate) const OP: &str = "knn";

/// How neighbours vote.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct KnnConfig {
    /// Number of neighbours; fewer if the training set is smaller. By default 20.
    pub k: usize,
    /// T: a neighbour of cosine similarity s votes with weight exp(s / T). By default 0.07, as in the classifier of
    /// arXiv:1805.01978.
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

impl KnnConfig {
    /// An error that names the first field out of range.
    fn check(&self) -> Result<(), Error> {
        let config = |field, value: String, expected| {
            Err(Error::Config {
                op: OP,
                field,
                value,
                expected,
            })
        };
        if self.k == 0 {
            return config("k", "0".into(), "at least 1");
        }
        if !(self.temperature.is_finite() && self.temperature > 0.) {
            return config(
                "temperature",
                self.temperature.to_string(),
                "a value above 0",
            );
        }
        Ok(())
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
/// What [`Embeddings::new`] refuses, sets of different widths, and a configuration out of range.
pub fn knn_hits(
    train: &Embeddings,
    test: &Embeddings,
    cfg: &KnnConfig,
) -> Result<Vec<bool>, Error> {
    let places = places(train, test, cfg)?;
    Ok(places.iter().map(|place| *place == Some(0)).collect())
}

/// A training row that voted.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Neighbour {
    /// Its index among the training rows.
    pub row: usize,
    /// Its class.
    pub label: u32,
    /// Its cosine similarity to the query.
    pub similarity: f32,
    /// Its share of all votes, in [0, 1].
    pub vote: f64,
}

/// What the neighbours of one query say.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KnnPrediction {
    /// The class with the most votes.
    pub class: u32,
    /// Its share of the votes, in [0, 1].
    pub vote: f64,
    /// The neighbours that voted, the nearest first.
    pub neighbours: Vec<Neighbour>,
}

/// The class of each row of `queries` (N, D) by its `k` nearest in `train`, and those neighbours: what [`knn`] counts,
/// for queries without labels.
///
/// # Errors
/// What [`Embeddings::new`] refuses, sets of different widths, and a configuration out of range.
pub fn knn_predictions(
    train: &Embeddings,
    queries: &Tensor,
    cfg: &KnnConfig,
) -> Result<Vec<KnnPrediction>, Error> {
    predictions_of_rows(train, Rows::of(OP, "queries", queries)?, cfg)
}

pub(crate) fn predictions_of_rows(
    train: &Embeddings,
    queries: Rows,
    cfg: &KnnConfig,
) -> Result<Vec<KnnPrediction>, Error> {
    vote(train, (queries, "queries"), cfg, |_, ballot| {
        let total: f64 = ballot.classes.iter().map(|(_, votes)| votes).sum();
        let (class, votes) = ballot.classes[0];
        KnnPrediction {
            class,
            vote: votes / total,
            neighbours: ballot
                .neighbours
                .iter()
                .map(|neighbour| Neighbour {
                    vote: neighbour.vote / total,
                    ..*neighbour
                })
                .collect(),
        }
    })
}

/// For each row of `test` how many classes got more votes than its own; `None` for a class without a vote.
fn places(
    train: &Embeddings,
    test: &Embeddings,
    cfg: &KnnConfig,
) -> Result<Vec<Option<usize>>, Error> {
    let queries = test.checked(OP, "test")?;
    vote(train, (queries, "test"), cfg, |query, ballot| {
        ballot
            .classes
            .iter()
            .position(|(class, _)| *class == test.labels[query])
    })
}

/// The votes on one query; there is at least one.
struct Ballot {
    /// Nearest first, each with its weight as its vote.
    neighbours: Vec<Neighbour>,
    /// Classes and their votes, most votes first.
    classes: Vec<(u32, f64)>,
}

/// What `each` makes of the votes on every row of `queries`, whose name is beside them.
fn vote<R: Send>(
    train: &Embeddings,
    (queries, name): (Rows, &'static str),
    cfg: &KnnConfig,
    each: impl Fn(usize, Ballot) -> R + Sync,
) -> Result<Vec<R>, Error> {
    cfg.check()?;
    let gallery = train.checked(OP, "train")?;
    if gallery.d != queries.d {
        return Err(queries.unexpected(OP, name, format!("(N, {})", gallery.d)));
    }
    let nearest = from_gallery(
        &Side::new(&queries, Similarity::Cosine),
        &Side::new(&gallery, Similarity::Cosine),
        cfg.k,
    )?;
    let ballot = |query: usize| {
        let mut votes: BTreeMap<u32, f64> = BTreeMap::new();
        let mut neighbours = Vec::with_capacity(nearest.k);
        let mut top = None;
        for (row, similarity) in nearest.of(query) {
            let label = train.labels[row];
            // Relative to the nearest, so that a low temperature cannot overflow.
            let top = *top.get_or_insert(f64::from(similarity));
            let vote = ((f64::from(similarity) - top) / cfg.temperature).exp();
            *votes.entry(label).or_default() += vote;
            neighbours.push(Neighbour {
                row,
                label,
                similarity,
                vote,
            });
        }
        let mut classes: Vec<(u32, f64)> = votes.into_iter().collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        each(
            query,
            Ballot {
                neighbours,
                classes,
            },
        )
    };
    Ok((0..queries.n).into_par_iter().map(ballot).collect())
}

/// For each of `numbers`, in ascending order, what [`knn_hits`] gives with that many neighbours: in one search.
pub(crate) fn hits_of_prefixes(
    train: &Embeddings,
    test: &Embeddings,
    numbers: &[usize],
    cfg: &KnnConfig,
) -> Result<Vec<Vec<bool>>, Error> {
    for number in numbers.iter().chain([numbers.len().min(1)].iter()) {
        let cfg = KnnConfig {
            k: *number,
            ..cfg.clone()
        };
        cfg.check()?;
    }
    let most = KnnConfig {
        k: numbers.last().copied().unwrap_or(1),
        ..cfg.clone()
    };
    let queries = test.checked(OP, "test")?;
    let by_query = vote(train, (queries, "test"), &most, |query, ballot| {
        let mut votes: BTreeMap<u32, f64> = BTreeMap::new();
        let mut hits = Vec::with_capacity(numbers.len());
        let mut neighbours = ballot.neighbours.iter();
        for (at, number) in numbers.iter().enumerate() {
            let more = number - at.checked_sub(1).map_or(0, |before| numbers[before]);
            for neighbour in neighbours.by_ref().take(more) {
                *votes.entry(neighbour.label).or_default() += neighbour.vote;
            }
            // The most votes, equal ones by class.
            let best = votes
                .iter()
                .reduce(|best, class| if class.1 > best.1 { class } else { best });
            hits.push(best.is_some_and(|(class, _)| *class == test.labels[query]));
        }
        hits
    })?;
    let of_number = |at: usize| by_query.iter().map(|hits| hits[at]).collect();
    Ok((0..numbers.len()).map(of_number).collect())
}
