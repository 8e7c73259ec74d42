//! Intervals by resampling classes.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rayon::prelude::*;

use crate::Error;
use crate::hash::rng;
use crate::retrieval::items_of_classes;
use crate::student::student_t;

const OP: &str = "class_bootstrap";

/// How often and how wide.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct BootstrapConfig {
    /// Samples drawn. By default 2000.
    pub draws: usize,
    /// The share of the samples that lies in an interval. By default 0.95.
    pub level: f64,
    /// Seed of the samples. By default 0.
    pub seed: u64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self {
            draws: 2000,
            level: 0.95,
            seed: 0,
        }
    }
}

/// A mean with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Interval {
    /// The mean over all queries.
    pub mean: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

/// One row of figures: its mean, and how far that is from the first row's.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Bootstrapped {
    /// The row's mean.
    pub value: Interval,
    /// The mean of the row less that of the first row, over the same samples: 0 for the first row itself.
    pub gain: Interval,
}

/// Means of `rows` over the same queries, with percentile intervals (Efron 1979) for the mean of each row and for its
/// difference to the first row.
///
/// Each row holds a value for each query: 1 or 0 for right or wrong, an average precision. Whole classes are drawn
/// with replacement, as many as there are, since queries of a class are not independent: photos of one shelf are
/// right or wrong together. All rows see the same samples. With a class for each query this is the plain bootstrap.
/// The number of threads changes no bit.
///
/// # Errors
/// No row, no query, rows or labels of different lengths, values that are not finite, a configuration out of range.
pub fn class_bootstrap(
    rows: &[&[f64]],
    labels: &[u32],
    cfg: &BootstrapConfig,
) -> Result<Vec<Bootstrapped>, Error> {
    check(rows, labels, cfg)?;
    let mut classes: BTreeMap<u32, (f64, Vec<f64>)> = BTreeMap::new();
    for (query, label) in labels.iter().enumerate() {
        let (count, sums) = classes
            .entry(*label)
            .or_insert_with(|| (0., vec![0.; rows.len()]));
        *count += 1.;
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum += row[query];
        }
    }
    let classes: Vec<(f64, Vec<f64>)> = classes.into_values().collect();
    let means = mean(rows.len(), classes.iter());
    // (draws, rows)
    let samples: Vec<Vec<f64>> = (0..cfg.draws)
        .into_par_iter()
        .map(|draw| mean(rows.len(), drawn(&classes, cfg.seed, draw)))
        .collect();
    let interval = |mean: f64, of: &dyn Fn(&[f64]) -> f64| {
        let values = samples.iter().map(|sample| of(sample)).collect();
        interval_of(mean, values, cfg.level)
    };
    Ok((0..rows.len())
        .map(|row| Bootstrapped {
            value: interval(means[row], &|sample| sample[row]),
            gain: interval(means[row] - means[0], &|sample| sample[row] - sample[0]),
        })
        .collect())
}

/// A figure of all queries that is no mean of values by query, with an interval by leaving out one class after another
/// (the jackknife, Quenouille 1956, Tukey 1958), Student's t with one degree of freedom fewer than classes. `figure` gets the numbers of
/// the queries that are kept. What counts pairs of queries cannot be drawn with replacement: copies of a query would be pairs that
/// agree. None for a single class.
///
/// # Errors
/// No query, a configuration out of range, and those of `figure`.
pub fn class_jackknife(
    labels: &[u32],
    cfg: &BootstrapConfig,
    figure: impl Fn(&[usize]) -> Result<f64, Error> + Sync,
) -> Result<Option<Interval>, Error> {
    check(&[&vec![0.; labels.len()]], labels, cfg)?;
    let all: Vec<usize> = (0..labels.len()).collect();
    let mean = figure(&all)?;
    let classes = items_of_classes(labels);
    if classes.len() < 2 {
        return Ok(None);
    }
    let classes: Vec<u32> = classes.into_keys().collect();
    let without = |class: &u32| {
        let kept = all.iter().copied().filter(|query| labels[*query] != *class);
        figure(&kept.collect::<Vec<_>>())
    };
    let figures: Result<Vec<f64>, Error> = classes.par_iter().map(without).collect();
    let figures = figures?;
    let n = figures.len() as f64;
    let centre = figures.iter().sum::<f64>() / n;
    let squares: f64 = figures.iter().map(|figure| (figure - centre).powi(2)).sum();
    let error = ((n - 1.) / n * squares).sqrt();
    let half = student_t(figures.len() - 1, cfg.level) * error;
    Ok(Some(Interval {
        mean,
        low: mean - half,
        high: mean + half,
    }))
}

/// As many of `classes` as there are, with replacement.
fn drawn<T>(classes: &[T], seed: u64, draw: usize) -> impl Iterator<Item = &T> {
    let mut rng = rng([seed, draw as u64, 0, 0]);
    classes.iter().map(move |_| {
        let at = rng.random_range(0..classes.len() as u64) as usize;
        &classes[at]
    })
}

/// The interval of a mean by samples of it.
fn interval_of(mean: f64, mut samples: Vec<f64>, level: f64) -> Interval {
    samples.sort_by(f64::total_cmp);
    let tail = (1. - level) / 2.;
    Interval {
        mean,
        low: quantile(&samples, tail),
        high: quantile(&samples, 1. - tail),
    }
}

/// Means of `rows` figures over all queries of some classes, each a count of queries and sums over them.
fn mean<'a>(rows: usize, classes: impl Iterator<Item = &'a (f64, Vec<f64>)>) -> Vec<f64> {
    let (mut total, mut sums) = (0., vec![0.; rows]);
    for (count, of_class) in classes {
        total += count;
        for (sum, value) in sums.iter_mut().zip(of_class) {
            *sum += value;
        }
    }
    sums.iter().map(|sum| sum / total).collect()
}

/// The quantile of sorted values, between two of them by a straight line, as NumPy has it.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

fn check(rows: &[&[f64]], labels: &[u32], cfg: &BootstrapConfig) -> Result<(), Error> {
    let config = |field, value: String, expected| Error::Config {
        op: OP,
        field,
        value,
        expected,
    };
    if cfg.draws == 0 {
        return Err(config("draws", "0".into(), "at least 1"));
    }
    if !(cfg.level > 0. && cfg.level < 1.) {
        return Err(config("level", cfg.level.to_string(), "a value in (0, 1)"));
    }
    if rows.is_empty() || labels.is_empty() {
        let reason = format!("{} rows of {} queries", rows.len(), labels.len());
        return Err(Error::Nothing { op: OP, reason });
    }
    for (index, row) in rows.iter().enumerate() {
        if row.len() != labels.len() {
            return Err(Error::Labels {
                op: OP,
                name: "a row",
                rows: row.len(),
                labels: labels.len(),
            });
        }
        if let Some(column) = row.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite {
                op: OP,
                name: "a value",
                row: index,
                column,
                value: row[column] as f32,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        // numpy.quantile([1, 2, 4, 8], [0, 0.025, 0.5, 0.975, 1])
        let sorted = [1., 2., 4., 8.];
        for (share, expected) in [(0., 1.), (0.025, 1.075), (0.5, 3.), (0.975, 7.7), (1., 8.)] {
            assert!((quantile(&sorted, share) - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn classes_are_drawn_whole_and_rows_together() {
        // Two classes: of a sample of two, a quarter is the first twice, a quarter the second twice.
        let (first, second) = ([1., 1., 1., 0.], [1., 1., 1., 1.]);
        let cfg = BootstrapConfig::default();
        let found = class_bootstrap(&[&first, &second], &[5, 5, 9, 9], &cfg).unwrap();
        let mean = |of: Interval| (of.mean, of.low, of.high);
        assert_eq!(mean(found[0].value), (0.75, 0.5, 1.));
        assert_eq!(mean(found[0].gain), (0., 0., 0.));
        assert_eq!(mean(found[1].value), (1., 1., 1.));
        // Never below 0: where the first row is wrong, the second is right in the same sample.
        assert_eq!(mean(found[1].gain), (0.25, 0., 0.5));
        // A class of more queries weighs more.
        let found = class_bootstrap(&[&[1., 0., 0., 0.]], &[1, 2, 2, 2], &cfg).unwrap();
        assert_eq!(mean(found[0].value), (0.25, 0., 1.));
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_distribution() {
        // A class for each of 400 queries, of which half are right: s.d. of the mean 0.025.
        let row: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let labels: Vec<u32> = (0..400).collect();
        let cfg = BootstrapConfig {
            draws: 4000,
            ..BootstrapConfig::default()
        };
        let found = class_bootstrap(&[&row], &labels, &cfg).unwrap()[0].value;
        assert!(
            (found.low - (0.5 - 1.96 * 0.025)).abs() < 0.005,
            "{found:?}"
        );
        assert!(
            (found.high - (0.5 + 1.96 * 0.025)).abs() < 0.005,
            "{found:?}"
        );
        let again = class_bootstrap(&[&row], &labels, &cfg).unwrap()[0].value;
        assert_eq!(found, again);
    }

    #[test]
    fn the_jackknife_of_a_mean_of_class_means_is_its_standard_error() {
        // Classes of one query: leaving each out gives the textbook's error of a mean.
        let row = [1., 2., 4., 9., 3.];
        let labels = [0, 1, 2, 3, 4];
        let mean = |queries: &[usize]| {
            let values = queries.iter().map(|query| row[*query]);
            Ok(values.sum::<f64>() / queries.len() as f64)
        };
        let cfg = BootstrapConfig::default();
        let found = class_jackknife(&labels, &cfg, mean).unwrap().unwrap();
        let half = crate::half_width(&row).unwrap();
        assert!((found.high - 3.8 - half).abs() < 1e-9 && (found.low - 3.8 + half).abs() < 1e-9);
        assert_eq!(class_jackknife(&[7; 5], &cfg, mean).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_drawn_from_is_refused() {
        let cfg = BootstrapConfig::default();
        let said = |rows: &[&[f64]], labels: &[u32], cfg: &BootstrapConfig| {
            class_bootstrap(rows, labels, cfg).unwrap_err().to_string()
        };
        assert!(said(&[], &[1], &cfg).contains("0 rows of 1 queries"));
        assert!(said(&[&[]], &[], &cfg).contains("1 rows of 0 queries"));
        assert!(said(&[&[1.]], &[1, 2], &cfg).contains("2 labels for 1 rows"));
        assert!(said(&[&[1.], &[f64::NAN]], &[1], &cfg).contains("NaN at row 1, column 0"));
        let none = BootstrapConfig {
            draws: 0,
            ..cfg.clone()
        };
        assert!(said(&[&[1.]], &[1], &none).contains("draws is 0"));
        let wide = BootstrapConfig { level: 1., ..cfg };
        assert!(said(&[&[1.]], &[1], &wide).contains("level is 1"));
    }
}
