//! What a study with closed forms found on one data set: its rows and tables.

use std::collections::BTreeMap;

use fgvr_report::{Align, Table};
use serde::Serialize;

use super::StudyConfig;
use super::compare::{Paired, Spread};
use super::comparison::{Form, JudgedFigure};
use super::config::START;
use super::judged::JudgedRow;
use super::judgements::Judgements;
use super::named::{self, Named};
use super::rank_correlation::{self, RankCorrelation};
use super::report::{paired_cell, percent};
use crate::Result;

/// What was judged with and without the closed form on one data set.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedReport {
    /// The photos that asked: `test`, or what stands in for them; `None` without labels.
    pub queries_of: Option<String>,
    /// How many asked.
    pub queries: usize,
    /// How many were searched.
    pub searched: usize,
    /// The start, then the arms in the study's order, each in its forms.
    pub rows: Vec<JudgedRowReport>,
    /// What the study asked to compare.
    pub comparisons: Vec<Named>,
    /// How far measures without labels rank the rows as kNN does.
    pub rank_correlations: Vec<RankCorrelation>,
}

/// One side in one form. Figures are fractions.
#[derive(Clone, Debug, Serialize)]
pub struct JudgedRowReport {
    /// Its name in tables.
    pub name: String,
    /// The arm, or `start`.
    pub side: String,
    /// What was done to its features.
    pub form: Form,
    /// Each figure over seeds.
    pub figures: BTreeMap<&'static str, Spread>,
    /// Each figure less the control's in the same form, seed by seed; empty for the control.
    pub against_control: BTreeMap<&'static str, Paired>,
    /// Measures without labels over seeds.
    pub label_free: BTreeMap<&'static str, Spread>,
}

impl JudgedReport {
    /// Everything that is judged on `data`.
    ///
    /// # Errors
    /// Sides of a comparison that were judged on other images.
    pub(super) fn new(study: &StudyConfig, data: &str, judgements: &Judgements) -> Result<Self> {
        let arms = study.arm.iter().map(|arm| (arm.name.as_str(), arm.frozen));
        let sides: Vec<(&str, bool)> = std::iter::once((START, false)).chain(arms).collect();
        let judged = || {
            sides
                .iter()
                .flat_map(|(side, _)| judgements.all(data, side))
        };
        let rows = sides.iter().flat_map(|(side, frozen)| {
            let forms = Form::ALL.into_iter();
            forms.filter_map(|form| row(study, data, (side, *frozen, form), judgements))
        });
        let all: Vec<&JudgedRow> = judged().flat_map(|(_, judged)| &judged.rows).collect();
        let first = judged().next().map(|(_, judged)| judged);
        Ok(Self {
            queries_of: first.and_then(|judged| judged.queries_of.clone()),
            queries: first.map_or(0, |judged| judged.labels.len()),
            searched: first.map_or(0, |judged| judged.searched),
            rows: rows.collect(),
            comparisons: named::compare(&study.compare, data, judgements)?,
            rank_correlations: rank_correlation::of(&all),
        })
    }

    /// The tables of figures, each with its title, after the name of the data set.
    pub(super) fn figures(&self, name: &str, control: &str) -> Vec<(String, Table)> {
        let of = match &self.queries_of {
            Some(of) => format!(
                "percent of {} {of} images, {} searched",
                self.queries, self.searched
            ),
            None => "no labels".to_owned(),
        };
        vec![
            (
                format!("{name}: {of}, mean and s.d. over seeds"),
                self.table(|row, figure| percent(row.figures.get(figure))),
            ),
            (
                format!(
                    "{name}: less {control} in the same form, seed by seed, in points (± half the 95 % interval)"
                ),
                self.table(|row, figure| paired_cell(row.against_control.get(figure))),
            ),
        ]
    }

    /// The tables of what follows from the figures.
    pub(super) fn conclusions(&self, name: &str) -> Vec<(String, Table)> {
        let mut tables = Vec::new();
        if !self.comparisons.is_empty() {
            tables.push((
                format!(
                    "{name}: named comparisons (95 % intervals; p by tossing classes, corrected by Holm)"
                ),
                named::table(&self.comparisons),
            ));
        }
        if self.rank_correlations.iter().any(|of| of.rows > 0) {
            tables.push((
                format!("{name}: rank correlation of label-free measures with kNN, over all rows"),
                rank_correlation::table(&self.rank_correlations),
            ));
        }
        tables
    }

    fn table(&self, cell: impl Fn(&JudgedRowReport, &str) -> String) -> Table {
        let figures = JudgedFigure::ALL.map(|figure| (figure.name(), Align::Right));
        let columns: Vec<_> = std::iter::once(("features", Align::Left))
            .chain(figures)
            .collect();
        let mut table = Table::new(&columns);
        for row in &self.rows {
            let cells = figures.map(|(figure, _)| cell(row, figure));
            table.push(std::iter::once(row.name.clone()).chain(cells));
        }
        table
    }
}

fn row(
    study: &StudyConfig,
    data: &str,
    (side, frozen, form): (&str, bool, Form),
    judgements: &Judgements,
) -> Option<JudgedRowReport> {
    let of_form = judgements.all(data, side);
    let rows: Vec<&JudgedRow> = of_form.filter_map(|(_, judged)| judged.row(form)).collect();
    if rows.is_empty() {
        return None;
    }
    let figures = JudgedFigure::ALL.into_iter().filter_map(|figure| {
        let values: Vec<f64> = rows.iter().filter_map(|row| row.figure(figure)).collect();
        Some((figure.name(), Spread::of(&values)?))
    });
    let control = study.control.as_str();
    let against = |figure: JudgedFigure| {
        let seeds = judgements.shared_seeds(data, [side, control]);
        let pairs = seeds.into_iter().filter_map(|seed| {
            let of = |side| judgements.of(data, side, seed)?.row(form)?.figure(figure);
            Some((of(side)?, of(control)?))
        });
        Some((figure.name(), Paired::of(&pairs.collect::<Vec<_>>())?))
    };
    let is_control = side == control;
    let compared = JudgedFigure::ALL.into_iter().filter(|_| !is_control);
    let measures = rows[0].label_free.named().map(|(measure, _)| measure);
    let label_free = measures
        .into_iter()
        .enumerate()
        .filter_map(|(number, measure)| {
            let values = rows
                .iter()
                .filter_map(|row| row.label_free.named()[number].1);
            Some((measure, Spread::of(&values.collect::<Vec<_>>())?))
        });
    Some(JudgedRowReport {
        name: match frozen {
            true => format!("{side}, frozen"),
            false => form.row(side),
        },
        side: side.to_owned(),
        form,
        figures: figures.collect(),
        against_control: compared.filter_map(against).collect(),
        label_free: label_free.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::judged::tests::judged;
    use super::*;

    const STUDY: &str = r#"
name = "tiny"
seeds = [0, 1]
control = "start"
closed_form = true
[[data]]
name = "birds"
source = "builtin:lookalikes"
weights = "some/weights"
[[arm]]
name = "full"
[[arm]]
name = "total"
frozen = true
[[compare]]
arm = "full"
with = "total"
figure = "kNN"
"#;

    #[test]
    fn every_table_has_the_start_in_both_forms_and_differences_are_of_like_forms() {
        let study = StudyConfig::parse(STUDY, "s.toml").unwrap();
        let (none, one, all) = ([false; 4], [true, false, false, false], [true; 4]);
        let classes = [0, 0, 1, 1];
        let mut judgements = Judgements::default();
        judgements.add("birds", "start", None, judged(&classes, [&none, &one]));
        judgements.add("birds", "full", Some(0), judged(&classes, [&one, &all]));
        judgements.add("birds", "full", Some(1), judged(&classes, [&all, &all]));
        let mut total = judged(&classes, [&none, &all]);
        total.rows.remove(0);
        judgements.add("birds", "total", None, total);
        let report = JudgedReport::new(&study, "birds", &judgements).unwrap();
        let text = |table: &Table| -> String {
            let text = table.to_markdown();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let tables = report.figures("birds", "start");
        let [figures, differences] = [0, 1].map(|table| text(&tables[table].1));
        for row in [
            "| start | 0.0 |",
            "| start + closed form | 25.0 |",
            "| full | 62.5 (53.0) |",
            "| full + closed form | 100.0 (0.0) |",
            "| total, frozen | 100.0 |",
        ] {
            assert!(figures.contains(row), "{row} in {figures}");
        }
        for row in [
            "| start | - |",
            "| full + closed form | +75.0 ± 0.0 |",
            "| total, frozen | +75.0 |",
        ] {
            assert!(differences.contains(row), "{row} in {differences}");
        }
        assert_eq!(report.comparisons[0].difference.mean, 0.);
        // Two of the start, four of the arm, one that is frozen.
        assert_eq!(report.rank_correlations[0].rows, 7);
        assert_eq!(report.conclusions("birds").len(), 2);
        for (title, table) in report
            .figures("birds", "start")
            .iter()
            .chain(&report.conclusions("birds"))
        {
            let lines = table.to_string();
            assert!(
                lines.lines().all(|l| l.chars().count() <= 100),
                "{title}\n{lines}"
            );
        }
    }
}
