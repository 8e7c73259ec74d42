//! The tables of a study, and its page.

use std::collections::BTreeMap;

use serde::Serialize;

use super::StudyConfig;
use super::compare::{Paired, Spread, Verdict};
use super::figures::{METRICS, RunFigures};
use super::judged_report::JudgedReport;
use super::judgements::Judgements;
use super::parts::{self, HitReport};
use crate::{JudgedOn, Result};
use fgvr_report::{Align, Table};

/// Everything a study found; `study.json`.
#[derive(Clone, Debug, Serialize)]
pub struct StudyReport {
    /// Its title.
    pub name: String,
    /// The arm the others are compared with.
    pub control: String,
    /// Runs that are done, of how many; with them judgements of what takes no training.
    pub done: [usize; 2],
    /// One for each data set.
    pub data: Vec<DataReport>,
}

/// What a study found on one data set.
#[derive(Clone, Debug, Serialize)]
pub struct DataReport {
    /// Its name.
    pub name: String,
    /// The split that its figures are of.
    pub judged_on: JudgedOn,
    /// One for each arm that trains, in the study's order.
    pub arms: Vec<ArmReport>,
    /// The start and the pixels, from the control's runs.
    pub references: Vec<ReferenceReport>,
    /// Hits of the parts, where the set knows them.
    pub hits: Vec<HitReport>,
    /// The seconds that the table at equal wall time grants each arm: those of the fastest.
    pub seconds: Option<f64>,
    /// All sides with and without the closed form, where the study asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged: Option<JudgedReport>,
}

/// What an arm came to.
#[derive(Clone, Debug, Serialize)]
pub struct ArmReport {
    /// Its name.
    pub name: String,
    /// Each figure over seeds.
    pub figures: BTreeMap<&'static str, Spread>,
    /// Each figure less the control's, seed by seed; empty for the control.
    pub against_control: BTreeMap<&'static str, Paired>,
    /// The same of screened features, where the arm has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screened: Option<ScreenedReport>,
    /// Seconds of training.
    pub seconds: Option<Spread>,
    /// Online kNN on validation images when the fastest arm's time was over.
    pub at_equal_time: Option<Spread>,
    /// Smallest share of steps at the pair loss's full weight.
    pub full_nu: Option<f64>,
    /// Online kNN on validation images over seconds, seed by seed.
    #[serde(skip)]
    pub curves: Vec<(u64, Vec<(f64, f64)>)>,
}

/// Figures of features whose places are weighed by a screening map.
#[derive(Clone, Debug, Serialize)]
pub struct ScreenedReport {
    /// Its row's name.
    pub name: String,
    /// Each figure over seeds.
    pub figures: BTreeMap<&'static str, Spread>,
    /// Each figure less that of the control's features as they are, seed by seed.
    pub against_control: BTreeMap<&'static str, Paired>,
}

/// What takes no training.
#[derive(Clone, Debug, Serialize)]
pub struct ReferenceReport {
    /// What it is.
    pub name: &'static str,
    /// Each figure over seeds.
    pub figures: BTreeMap<&'static str, Spread>,
}

/// Figures by (data set, arm, seed).
pub(super) type Found = BTreeMap<(String, String, u64), RunFigures>;

impl StudyReport {
    /// Puts the figures found so far together, `done` of how many.
    ///
    /// # Errors
    /// Sides of a comparison that were judged on other images.
    pub(super) fn new(
        study: &StudyConfig,
        (found, judgements): (&Found, &Judgements),
        done: [usize; 2],
    ) -> Result<Self> {
        let data = study.data.iter().map(|data| {
            let judged =
                (study.closed_form).then(|| JudgedReport::new(study, &data.name, judgements));
            Ok(DataReport {
                judged: judged.transpose()?,
                ..data_report(study, &data.name, found)
            })
        });
        Ok(Self {
            name: study.name.clone(),
            control: study.control.clone(),
            done,
            data: data.collect::<Result<_>>()?,
        })
    }

    /// The tables, each with its title, for a terminal.
    #[must_use]
    pub fn tables(&self) -> Vec<(String, Table)> {
        self.data
            .iter()
            .flat_map(|data| self.tables_of(data))
            .collect()
    }

    pub(super) fn tables_of(&self, data: &DataReport) -> Vec<(String, Table)> {
        let name = &data.name;
        let mut tables = match &data.judged {
            Some(judged) => judged.figures(name, &self.control),
            None => vec![
                (
                    format!(
                        "{name}: last checkpoint, percent of {} images, mean and s.d. over seeds",
                        data.judged_on.name()
                    ),
                    data.figures_table(),
                ),
                (
                    format!(
                        "{name}: differences to {}, seed by seed, in points (± half the 95 % interval)",
                        self.control
                    ),
                    data.differences_table(&self.control),
                ),
            ],
        };
        if let Some(judged) = &data.judged {
            tables.extend(judged.conclusions(name));
        }
        if !data.arms.is_empty() {
            tables.push((
                format!("{name}: time, and kNN on validation images at equal time"),
                data.time_table(),
            ));
        }
        if !data.hits.is_empty() {
            tables.push((
                format!("{name}: hits of the parts that tell classes apart, in percent"),
                parts::table(&data.hits),
            ));
        }
        tables
    }
}

fn data_report(study: &StudyConfig, data: &str, found: &Found) -> DataReport {
    let of = |arm: &str| -> Vec<(u64, &RunFigures)> {
        let key = |seed: &u64| (data.to_owned(), arm.to_owned(), *seed);
        let runs = study.seeds.iter();
        runs.filter_map(|seed| Some((*seed, found.get(&key(seed))?)))
            .collect()
    };
    // What trains nothing has no runs.
    let trained = || study.arm.iter().filter(|arm| !arm.frozen);
    let control = of(&study.control);
    let seconds = |runs: &[(u64, &RunFigures)]| {
        Spread::of(&runs.iter().map(|(_, f)| f.seconds).collect::<Vec<_>>())
    };
    let fastest = trained()
        .filter_map(|arm| Some(seconds(&of(&arm.name))?.mean))
        .min_by(f64::total_cmp);
    let arms = trained().map(|arm| {
        let runs = of(&arm.name);
        let figures = spreads(&runs, |f| &f.trained);
        let against_control = match arm.name == study.control {
            true => BTreeMap::new(),
            false => differences(&runs, &control, |f| &f.trained),
        };
        let screened = spreads(&runs, |f| &f.screened);
        let screened = (!screened.is_empty()).then(|| ScreenedReport {
            name: format!("{}, screened", arm.name),
            figures: screened,
            against_control: differences(&runs, &control, |f| &f.screened),
        });
        let at_time: Vec<f64> = fastest.map_or_else(Vec::new, |seconds| {
            let runs = runs.iter();
            runs.filter_map(|(_, f)| f.validation_at(seconds)).collect()
        });
        ArmReport {
            name: arm.name.clone(),
            figures,
            against_control,
            screened,
            seconds: seconds(&runs),
            at_equal_time: Spread::of(&at_time),
            full_nu: runs.iter().map(|(_, f)| f.full_nu).min_by(f64::total_cmp),
            curves: runs
                .iter()
                .map(|(seed, f)| (*seed, f.validation.clone()))
                .collect(),
        }
    });
    DataReport {
        name: data.to_owned(),
        judged_on: match control.iter().any(|(_, figures)| figures.on_validation) {
            true => JudgedOn::Validation,
            false => JudgedOn::Test,
        },
        arms: arms.collect(),
        references: vec![
            ReferenceReport {
                name: "start of the control",
                figures: spreads(&control, |f| &f.start),
            },
            ReferenceReport {
                name: "pixels",
                figures: spreads(&control, |f| &f.pixels),
            },
        ],
        hits: trained()
            .flat_map(|arm| {
                let runs = of(&arm.name).into_iter();
                let hits: Vec<_> = runs.map(|(_, figures)| figures.hits.as_slice()).collect();
                parts::reports(&arm.name, &hits)
            })
            .collect(),
        seconds: fastest,
        judged: None,
    }
}

fn spreads(
    runs: &[(u64, &RunFigures)],
    of: impl Fn(&RunFigures) -> &BTreeMap<&'static str, f64>,
) -> BTreeMap<&'static str, Spread> {
    let spread = |(metric, _): (&'static str, _)| {
        let values: Vec<f64> = runs
            .iter()
            .filter_map(|(_, figures)| of(figures).get(metric).copied())
            .collect();
        Some((metric, Spread::of(&values)?))
    };
    METRICS.into_iter().filter_map(spread).collect()
}

/// Figures of `runs` less those of the control's trained features, seed by seed.
fn differences(
    runs: &[(u64, &RunFigures)],
    control: &[(u64, &RunFigures)],
    of: impl Fn(&RunFigures) -> &BTreeMap<&'static str, f64>,
) -> BTreeMap<&'static str, Paired> {
    let paired = |(metric, _): (&'static str, _)| {
        let pairs: Vec<(f64, f64)> = runs
            .iter()
            .filter_map(|(seed, figures)| {
                let (_, control) = control.iter().find(|(s, _)| s == seed)?;
                Some((*of(figures).get(metric)?, *control.trained.get(metric)?))
            })
            .collect();
        Some((metric, Paired::of(&pairs)?))
    };
    METRICS.into_iter().filter_map(paired).collect()
}

fn columns(first: &'static str) -> Vec<(&'static str, Align)> {
    let metrics = METRICS.iter().map(|(name, _)| (*name, Align::Right));
    std::iter::once((first, Align::Left))
        .chain(metrics)
        .collect()
}

pub(super) fn percent(spread: Option<&Spread>) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread { mean, sd, .. }) => match sd {
            Some(sd) => format!("{:.1} ({:.1})", 100. * mean, 100. * sd),
            None => format!("{:.1}", 100. * mean),
        },
    }
}

/// A difference in points, with half its interval and what it shows.
pub(super) fn paired_cell(paired: Option<&Paired>) -> String {
    let Some(paired) = paired else {
        return "-".to_owned();
    };
    let width = paired
        .half_width
        .map_or_else(String::new, |w| format!(" ± {:.1}", 100. * w));
    let verdict = match paired.verdict {
        Verdict::Gain => " gain",
        Verdict::Loss => " loss",
        Verdict::NotShown | Verdict::TooFewSeeds => "",
    };
    format!("{:+.1}{width}{verdict}", 100. * paired.difference.mean)
}

impl DataReport {
    fn figures_table(&self) -> Table {
        let mut table = Table::new(&columns("arm"));
        let arms = self.arms.iter().flat_map(|arm| {
            let screened = arm.screened.as_ref();
            let screened = screened.map(|s| (s.name.as_str(), &s.figures));
            std::iter::once((arm.name.as_str(), &arm.figures)).chain(screened)
        });
        let references = self.references.iter().map(|r| (r.name, &r.figures));
        for (name, figures) in arms.chain(references) {
            let cells = METRICS.map(|(metric, _)| percent(figures.get(metric)));
            table.push(std::iter::once(name.to_owned()).chain(cells));
        }
        table
    }

    fn differences_table(&self, control: &str) -> Table {
        let mut table = Table::new(&columns("arm"));
        let rows = self.arms.iter().flat_map(|arm| {
            let own = (arm.name != control).then_some((&arm.name, &arm.against_control));
            let screened = arm.screened.as_ref();
            let screened = screened.map(|s| (&s.name, &s.against_control));
            own.into_iter().chain(screened)
        });
        for (name, against_control) in rows {
            let cells = METRICS.map(|(metric, _)| paired_cell(against_control.get(metric)));
            table.push(std::iter::once(name.clone()).chain(cells));
        }
        table
    }

    fn time_table(&self) -> Table {
        let mut table = Table::new(&[
            ("arm", Align::Left),
            ("minutes", Align::Right),
            ("validation kNN at equal time", Align::Right),
            ("steps at full nu", Align::Right),
        ]);
        for arm in &self.arms {
            let minutes = arm
                .seconds
                .map_or("-".to_owned(), |s| format!("{:.1}", s.mean / 60.));
            let share = match arm.full_nu {
                Some(share) if share > 0. => format!("{:.0} %", 100. * share),
                _ => "-".to_owned(),
            };
            let at_time = percent(arm.at_equal_time.as_ref());
            table.push([arm.name.clone(), minutes, at_time, share]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screened_features_have_a_row_and_are_compared_with_the_controls_as_they_are() {
        let text = r#"
name = "tiny"
seeds = [0]
control = "base"
[[data]]
name = "birds"
source = "builtin:lookalikes"
[[arm]]
name = "base"
[[arm]]
name = "lcr"
set = ["addons=[\"lcr\"]", "arm=base"]
"#;
        let study = StudyConfig::parse(text, "s.toml").unwrap();
        let run = |arm: &str, trained, screened: &[f64]| {
            let key = ("birds".to_owned(), arm.to_owned(), 0);
            let figures = RunFigures {
                trained: BTreeMap::from([("kNN", trained)]),
                screened: screened.iter().map(|v| ("kNN", *v)).collect(),
                ..RunFigures::default()
            };
            (key, figures)
        };
        let found = Found::from([run("base", 0.5, &[]), run("lcr", 0.625, &[0.75])]);
        let judged = Judgements::default();
        let report = StudyReport::new(&study, (&found, &judged), [2, 2]).unwrap();
        let [figures, differences, time] = [0, 1, 2].map(|i| report.tables()[i].1.to_markdown());
        for row in [
            "| base | 50.0 |",
            "| lcr | 62.5 |",
            "| lcr, screened | 75.0 |",
        ] {
            assert!(flat(&figures).contains(row), "{row} in {figures}");
        }
        for row in ["| lcr | +12.5 |", "| lcr, screened | +25.0 |"] {
            assert!(flat(&differences).contains(row), "{row} in {differences}");
        }
        assert!(!differences.contains("base |") && !time.contains("screened"));
    }

    /// Without the spaces that align columns.
    fn flat(table: &str) -> String {
        table.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
