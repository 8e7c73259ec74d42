//! k-means: features in groups, without labels.

use rand::Rng;
use rand::RngExt;

use crate::embeddings::Rows;
use crate::hash::rng;
use crate::ranking::for_each_query;
use crate::{Embeddings, Error};

pub(crate) const OP: &str = "k_means";

/// How features are grouped.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct KMeansConfig {
    /// Number of clusters; as many as there are classes where absent.
    pub clusters: Option<usize>,
    /// Starts by k-means++, of which the one with the least inertia is kept.
    pub starts: usize,
    /// Most passes over the features from one start.
    pub iterations: usize,
    /// A start has ended once the centres move by less than this share of the features' mean variance, as squared length.
    pub tolerance: f64,
    /// Group L2-normalised features, so that distance is cosine distance.
    pub normalise: bool,
    /// Seed of the starts.
    pub seed: u64,
}

impl Default for KMeansConfig {
    fn default() -> Self {
        Self {
            clusters: None,
            starts: 10,
            iterations: 300,
            tolerance: 1e-4,
            normalise: true,
            seed: 0,
        }
    }
}

/// The groups found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Clusters {
    /// The cluster of each row, 0 to `clusters - 1`.
    pub assignment: Vec<u32>,
    /// Sum over rows of the squared distance to the centre of their cluster.
    pub inertia: f64,
    /// Passes of the start that was kept.
    pub iterations: usize,
}

/// Lloyd's algorithm from k-means++ starts (Arthur and Vassilvitskii 2007). Labels only say how many clusters there are
/// where [`KMeansConfig::clusters`] does not. A cluster that loses all its rows gets the row that is farthest from its
/// centre.
///
/// # Errors
/// What [`Embeddings::new`] refuses, no cluster or more of them than rows, and no start or pass.
pub fn k_means(set: &Embeddings, cfg: &KMeansConfig) -> Result<Clusters, Error> {
    let mut rows = set.checked(OP, "set")?;
    let classes = || set.labels.iter().collect::<std::collections::BTreeSet<_>>();
    let k = cfg.clusters.unwrap_or_else(|| classes().len());
    for (field, value, expected) in [
        ("clusters", k, "at least 1, and no more than rows"),
        ("starts", cfg.starts, "at least 1"),
        ("iterations", cfg.iterations, "at least 1"),
    ] {
        if value == 0 || field == "clusters" && value > rows.n {
            return Err(Error::Config {
                op: OP,
                field,
                value: value.to_string(),
                expected,
            });
        }
    }
    if cfg.normalise {
        rows.l2_normalise();
    }
    let (_, variance) = rows.moments();
    let least = cfg.tolerance * variance.iter().sum::<f64>() / rows.d as f64;
    let mut best: Option<Clusters> = None;
    for start in 0..cfg.starts {
        let centres = first_centres(&rows, k, &mut rng([cfg.seed, start as u64, 0, 0]));
        let found = lloyd(&rows, centres, cfg.iterations, least);
        if best
            .as_ref()
            .is_none_or(|best| found.inertia < best.inertia)
        {
            best = Some(found);
        }
    }
    best.ok_or(Error::Nothing {
        op: OP,
        reason: "no start".to_owned(),
    })
}

/// k-means++: each centre is a row, drawn with its squared distance from the nearest centre so far as weight.
fn first_centres(rows: &Rows, k: usize, rng: &mut impl Rng) -> Rows {
    let mut chosen = vec![rng.random_range(0..rows.n)];
    let mut nearest = vec![f64::INFINITY; rows.n];
    while chosen.len() < k {
        let last = rows.row(chosen[chosen.len() - 1]);
        for (row, nearest) in nearest.iter_mut().enumerate() {
            *nearest = nearest.min(squared_distance(rows.row(row), last));
        }
        let total: f64 = nearest.iter().sum();
        let mut left = rng.random::<f64>() * total;
        let drawn = nearest.iter().position(|weight| {
            left -= weight;
            *weight > 0. && left < 0.
        });
        // Fewer different rows than clusters: any row that is not taken yet.
        let free = || (0..rows.n).find(|row| !chosen.contains(row));
        chosen.push(drawn.or_else(free).unwrap_or(0));
    }
    rows.select(&chosen)
}

/// Passes from `centres` until they move by no more than `least`, as the sum of squares.
fn lloyd(rows: &Rows, mut centres: Rows, most: usize, least: f64) -> Clusters {
    let mut iterations = 0;
    loop {
        let mut nearest = assign(rows, &centres);
        if iterations == most {
            return clusters(nearest, iterations);
        }
        iterations += 1;
        let moved = update(rows, &mut centres, &mut nearest);
        if moved <= least {
            let nearest = assign(rows, &centres);
            return clusters(nearest, iterations);
        }
    }
}

fn clusters(nearest: Vec<(u32, f64)>, iterations: usize) -> Clusters {
    Clusters {
        inertia: nearest.iter().map(|(_, distance)| distance).sum(),
        assignment: nearest.into_iter().map(|(cluster, _)| cluster).collect(),
        iterations,
    }
}

/// The nearest centre of each row, the first of equally near ones, and the squared distance to it.
fn assign(rows: &Rows, centres: &Rows) -> Vec<(u32, f64)> {
    let squares = (0..centres.n).map(|c| centres.row(c).iter().map(|v| v * v).sum::<f32>());
    let squares: Vec<f32> = squares.collect();
    // |x - c|² = |x|² - 2 x·c + |c|²: x is the same for all.
    for_each_query(rows, centres, |row, products| {
        let mut best = (0, f32::INFINITY);
        for (centre, (product, square)) in products.iter().zip(&squares).enumerate() {
            let distance = square - 2. * product;
            if distance < best.1 {
                best = (centre, distance);
            }
        }
        let exact = squared_distance(rows.row(row), centres.row(best.0));
        (best.0 as u32, exact)
    })
}

/// Makes each centre the mean of its rows, added up in their order; the sum of the squared lengths by which they move.
fn update(rows: &Rows, centres: &mut Rows, nearest: &mut [(u32, f64)]) -> f64 {
    let (k, d) = (centres.n, centres.d);
    let mut counts = vec![0usize; k];
    for (cluster, _) in nearest.iter() {
        counts[*cluster as usize] += 1;
    }
    for empty in 0..k {
        if counts[empty] > 0 {
            continue;
        }
        let mut farthest: Option<usize> = None;
        for (row, (cluster, distance)) in nearest.iter().enumerate() {
            let is_farther = farthest.is_none_or(|other| *distance > nearest[other].1);
            if counts[*cluster as usize] > 1 && is_farther {
                farthest = Some(row);
            }
        }
        if let Some(row) = farthest {
            counts[nearest[row].0 as usize] -= 1;
            counts[empty] = 1;
            nearest[row] = (empty as u32, 0.);
        }
    }
    let mut sums = vec![0f64; k * d];
    for (row, (cluster, _)) in rows.values.chunks_exact(d).zip(nearest.iter()) {
        let sum = &mut sums[*cluster as usize * d..][..d];
        sum.iter_mut()
            .zip(row)
            .for_each(|(s, v)| *s += f64::from(*v));
    }
    let mut moved = 0.;
    for (cluster, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let centre = &mut centres.values[cluster * d..][..d];
        for (value, sum) in centre.iter_mut().zip(&sums[cluster * d..][..d]) {
            let mean = sum / *count as f64;
            moved += (mean - f64::from(*value)).powi(2);
            *value = mean as f32;
        }
    }
    moved
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum()
}
