//! Whether measures without labels rank features as labels do.

use fgvr_report::{Align, Table};
use serde::Serialize;

use super::judged::JudgedRow;

/// With fewer rows a rank correlation says nothing.
const FEWEST: usize = 4;

/// A measure's rank correlation with kNN over all rows of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RankCorrelation {
    /// The measure.
    pub measure: &'static str,
    /// Rows that have both: arms, forms and seeds.
    pub rows: usize,
    /// Spearman's coefficient in [-1, 1]; `None` with fewer than four rows, or where one of both is constant.
    pub spearman: Option<f64>,
}

/// That of each measure over `rows`.
pub(super) fn of(rows: &[&JudgedRow]) -> Vec<RankCorrelation> {
    let mut found: Vec<(&'static str, Vec<(f64, f64)>)> = Vec::new();
    for row in rows {
        for (number, (measure, value)) in row.label_free.named().into_iter().enumerate() {
            if found.len() <= number {
                found.push((measure, Vec::new()));
            }
            found[number].1.extend(value.zip(row.knn));
        }
    }
    let correlation = |(measure, pairs): (&'static str, Vec<(f64, f64)>)| RankCorrelation {
        measure,
        rows: pairs.len(),
        spearman: spearman(&pairs),
    };
    found.into_iter().map(correlation).collect()
}

/// Spearman's rank correlation: Pearson's of ranks, of which equal values share the mean.
fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < FEWEST {
        return None;
    }
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let [a, b] = [ranks(&a), ranks(&b)];
    let middle = (pairs.len() + 1) as f64 / 2.;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| (a - middle) * (b - middle)).sum()
    };
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    (spread > 0.).then(|| product(&a, &b) / spread)
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 + 1.) / 2.
    };
    values.iter().map(rank).collect()
}

/// A row a measure.
pub(super) fn table(correlations: &[RankCorrelation]) -> Table {
    let mut table = Table::new(&[
        ("measure", Align::Left),
        ("rows", Align::Right),
        ("Spearman", Align::Right),
    ]);
    for of in correlations {
        let spearman = of
            .spearman
            .map_or("-".to_owned(), |rho| format!("{rho:+.2}"));
        table.push([of.measure.to_owned(), of.rows.to_string(), spearman]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Form;
    use super::super::judged::tests::judged;
    use super::*;

    #[test]
    fn the_coefficient_is_scipys() {
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
        let pairs = [(1., 2.), (2., 1.), (3., 4.), (4., 3.), (5., 5.)];
        assert!((spearman(&pairs).unwrap() - 0.8).abs() < 1e-12);
        // Ties: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
        let tied = [(1., 1.), (2., 5.), (2., 6.), (3., 7.)];
        let expected = 4.5 / (4.5f64 * 5.).sqrt();
        assert!((spearman(&tied).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn few_rows_and_constants_have_none() {
        assert_eq!(spearman(&[(1., 1.), (2., 2.), (3., 3.)]), None);
        assert_eq!(spearman(&[(1., 1.), (1., 2.), (1., 3.), (1., 4.)]), None);
    }

    #[test]
    fn every_measure_is_ranked_over_all_rows() {
        let judged: Vec<_> = (0..3)
            .map(|right| {
                let answers: Vec<bool> = (0..4).map(|query| query < right).collect();
                let other: Vec<bool> = (0..4).map(|query| query <= right).collect();
                judged(&[0, 1, 2, 3], [&answers, &other])
            })
            .collect();
        let rows: Vec<_> = judged.iter().flat_map(|judged| &judged.rows).collect();
        let found = of(&rows);
        let values: Vec<_> = found.iter().map(|of| (of.measure, of.spearman)).collect();
        assert_eq!(
            values,
            [
                ("found first", Some(1.)),
                ("reciprocal rank", None),
                ("agreement", Some(-1.)),
                ("effective rank", None),
            ]
        );
        assert!(found.iter().all(|of| of.rows == 6));
        assert_eq!(rows[0].form, Form::Plain);
        assert!(table(&found).to_string().contains("+1.00"));
    }
}
