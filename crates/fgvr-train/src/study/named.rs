//! The comparisons that a study named, on one data set: over seeds, over classes, and corrected for each other.

use fgvr_eval::{
    BootstrapConfig, Interval, SignFlipConfig, class_bootstrap, class_sign_flip, half_width, holm,
};
use fgvr_report::{Align, Table};
use serde::Serialize;

use super::comparison::{JudgedFigure, StudyCompare};
use super::judgements::Judgements;
use crate::{Error, Result};

/// A difference whose corrected p-value is at most this is called one.
const ALPHA: f64 = 0.05;

/// What a named comparison came to. Figures are fractions in [0, 1].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    /// What is compared, in words.
    pub comparison: String,
    /// By which figure.
    pub figure: JudgedFigure,
    /// The arm's figure, over seeds.
    pub value: f64,
    /// The other side's.
    pub reference: f64,
    /// The mean difference over seeds, with the 95 % interval from a bootstrap over classes of the test images, of the
    /// differences of queries averaged over seeds.
    pub difference: Interval,
    /// Seeds that both sides have; 0 where neither depends on a seed.
    pub seeds: usize,
    /// Half the width of the 95 % interval of the mean difference over seeds, by Student's t; `None` for fewer than two.
    pub over_seeds: Option<f64>,
    /// Two-sided, by tossing classes ([`class_sign_flip`]).
    pub p: f64,
    /// The same by Holm over the comparisons of the data set.
    pub p_corrected: f64,
    /// What that shows: `better`, `worse` or `not shown`.
    pub verdict: &'static str,
}

/// The comparisons that can be made with what is judged so far, on the data set `data`.
///
/// # Errors
/// Sides that were judged on other images.
pub(super) fn compare(
    named: &[StudyCompare],
    data: &str,
    judgements: &Judgements,
) -> Result<Vec<Named>> {
    let made: Result<Vec<Option<Named>>> = named
        .iter()
        .map(|comparison| one(comparison, data, judgements))
        .collect();
    let made = made?;
    // What is still to come counts as well: a correction does not grow while a study goes on.
    let p: Vec<f64> = made
        .iter()
        .map(|named| named.as_ref().map_or(1., |named| named.p))
        .collect();
    let corrected = made.into_iter().zip(holm(&p));
    let named = corrected.filter_map(|(named, p)| {
        let named = named?;
        Some(Named {
            p_corrected: p,
            verdict: match named.difference.mean {
                _ if p > ALPHA => "not shown",
                mean if mean > 0. => "better",
                _ => "worse",
            },
            ..named
        })
    });
    Ok(named.collect())
}

/// Both sides of one seed, query by query.
type Answers = [Vec<Option<f64>>; 2];

fn one(comparison: &StudyCompare, data: &str, judgements: &Judgements) -> Result<Option<Named>> {
    let sides = comparison.sides();
    let mut labels: Option<&[u32]> = None;
    let mut seeds: Vec<Answers> = Vec::new();
    for seed in judgements.shared_seeds(data, sides.map(|(side, _)| side)) {
        let mut answers: Answers = Default::default();
        for ((side, form), answers) in sides.into_iter().zip(&mut answers) {
            let judged = judgements.of(data, side, seed);
            let Some((judged, row)) = judged.and_then(|j| Some((j, j.row(form)?))) else {
                return Ok(None);
            };
            if *labels.get_or_insert(&judged.labels) != judged.labels {
                return Err(Error::config(
                    format!("[[compare]] {comparison}"),
                    format!(
                        "{side} was judged on other images of {data} than the rest; remove its judged.json, and the same \
                         command judges it anew"
                    ),
                ));
            }
            *answers = row.answers.values(comparison.figure);
        }
        seeds.push(answers);
    }
    let labels = labels.unwrap_or_default();
    // Which queries have a value follows from the labels: the same for all.
    let mean = |side: usize, query: usize| -> Option<f64> {
        let values: Option<Vec<f64>> = seeds
            .iter()
            .map(|answers| answers[side].get(query).copied().flatten())
            .collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
    };
    let asked = |query: &usize| Some((mean(0, *query)?, mean(1, *query)?));
    let asked = (0..labels.len()).filter_map(|query| Some((labels[query], asked(&query)?)));
    let (labels, values): (Vec<u32>, Vec<(f64, f64)>) = asked.unzip();
    if values.is_empty() {
        return Ok(None);
    }
    let differences: Vec<f64> = values.iter().map(|(a, b)| a - b).collect();
    let average =
        |of: &dyn Fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / values.len() as f64;
    let found = class_bootstrap(&[&differences], &labels, &BootstrapConfig::default())?;
    let p = class_sign_flip(&differences, &labels, &SignFlipConfig::default())?;
    let depends = sides
        .iter()
        .any(|(side, _)| judgements.is_seeded(data, side));
    let by_seed: Vec<f64> = seeds.iter().map(difference).collect();
    Ok(Some(Named {
        comparison: comparison.to_string(),
        figure: comparison.figure,
        value: average(&|(a, _)| *a),
        reference: average(&|(_, b)| *b),
        difference: found[0].value,
        seeds: if depends { seeds.len() } else { 0 },
        over_seeds: half_width(&by_seed).filter(|_| depends),
        p,
        p_corrected: p,
        verdict: "not shown",
    }))
}

/// The mean of one side less that of the other.
fn difference([a, b]: &Answers) -> f64 {
    let pairs = a.iter().zip(b);
    let pairs = pairs.filter_map(|(a, b)| Some((*a)? - (*b)?));
    let (sum, count) = pairs.fold((0., 0.), |(sum, count), d| (sum + d, count + 1.));
    sum / count
}

/// In points; p-values as they are.
pub(super) fn table(named: &[Named]) -> Table {
    let mut table = Table::new(&[
        ("comparison", Align::Left),
        ("by", Align::Left),
        ("points", Align::Right),
        ("over classes", Align::Right),
        ("over seeds", Align::Right),
        ("p", Align::Right),
        ("Holm", Align::Right),
        ("", Align::Left),
    ]);
    for named in named {
        let [mean, low, high] = [
            named.difference.mean,
            named.difference.low,
            named.difference.high,
        ]
        .map(|value| format!("{:+.1}", 100. * value));
        let over_seeds = match (named.over_seeds, named.seeds) {
            (Some(half), seeds) => format!("± {:.1} ({seeds})", 100. * half),
            (None, 0) => "-".to_owned(),
            (None, seeds) => format!("({seeds})"),
        };
        let p = |p: f64| match p {
            p if p < 0.001 => "< 0.001".to_owned(),
            p => format!("{p:.3}"),
        };
        table.push([
            named.comparison.clone(),
            named.figure.name().to_owned(),
            mean,
            format!("[{low}, {high}]"),
            over_seeds,
            p(named.p),
            p(named.p_corrected),
            named.verdict.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Form;
    use super::super::judged::tests::judged;
    use super::*;

    fn by_knn(arm: &str, with: &str, form: Form) -> StudyCompare {
        StudyCompare {
            arm: arm.to_owned(),
            with: with.to_owned(),
            figure: JudgedFigure::Knn,
            form,
            with_form: None,
        }
    }

    const CLASSES: [u32; 4] = [0, 0, 1, 1];

    /// The start answers nothing; the arm the first query in seed 0, and the first three in seed 1.
    fn judgements() -> Judgements {
        let mut judgements = Judgements::default();
        let none = [false; 4];
        judgements.add("birds", "start", None, judged(&CLASSES, [&none, &none]));
        for (seed, right) in [
            (0, [true, false, false, false]),
            (1, [true, true, true, false]),
        ] {
            let one = judged(&CLASSES, [&none, &right]);
            judgements.add("birds", "full", Some(seed), one);
        }
        judgements
    }

    #[test]
    fn differences_are_averaged_over_seeds_and_classes_are_tossed() {
        let named = [
            by_knn("full", "start", Form::ClosedForm),
            by_knn("full", "start", Form::Plain),
        ];
        let found = compare(&named, "birds", &judgements()).unwrap();
        // Queries come to 1, 1/2, 1/2 and 0: classes to 3/4 and 1/4.
        let first = &found[0];
        assert_eq!((first.value, first.reference, first.seeds), (0.5, 0., 2));
        let d = first.difference;
        assert_eq!((d.mean, d.low, d.high), (0.5, 0.25, 0.75));
        // By seed 1/4 and 3/4: Student's t of one degree of freedom times the error, 1/4.
        let half = first.over_seeds.unwrap();
        assert!((half - 12.706_204_736_432_095 / 4.).abs() < 1e-6, "{half}");
        // In four tosses two classes of one sign are as far from 0.
        assert_eq!((first.p, first.p_corrected), (0.5, 1.));
        // No difference at all.
        assert_eq!((found[1].p, found[1].difference.mean), (1., 0.));
        assert_eq!(found[1].verdict, "not shown");
        let text = table(&found).to_string();
        assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
        assert!(
            text.contains("+50.0") && text.contains("[+25.0, +75.0]"),
            "{text}"
        );
    }

    #[test]
    fn many_classes_of_one_sign_are_better_and_what_is_not_judged_is_left_out() {
        let labels: Vec<u32> = (0..12).collect();
        let (none, all) = ([false; 12], [true; 12]);
        let mut judgements = Judgements::default();
        judgements.add("birds", "start", None, judged(&labels, [&none, &none]));
        judgements.add("birds", "total", None, judged(&labels, [&none, &all]));
        let named = [
            by_knn("total", "start", Form::ClosedForm),
            by_knn("full", "start", Form::ClosedForm),
        ];
        let found = compare(&named, "birds", &judgements).unwrap();
        assert_eq!(found.len(), 1);
        // Two of 4096 tosses, of one comparison of two; nothing depends on a seed.
        let p = 2. / 4096.;
        assert_eq!((found[0].p, found[0].p_corrected), (p, 2. * p));
        assert_eq!((found[0].seeds, found[0].over_seeds), (0, None));
        assert_eq!(found[0].verdict, "better");
    }

    #[test]
    fn sides_of_other_images_are_refused() {
        let mut judgements = judgements();
        let other = judged(&[0, 1], [&[true; 2], &[true; 2]]);
        judgements.add("birds", "full", Some(0), other);
        let named = [by_knn("full", "start", Form::ClosedForm)];
        let error = compare(&named, "birds", &judgements).unwrap_err();
        assert!(error.to_string().contains("judges it anew"), "{error}");
    }
}
