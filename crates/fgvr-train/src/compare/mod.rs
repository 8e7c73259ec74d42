//! Which of several kinds of features is better, on the same images: paired tests with Holm's correction.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use fgvr_data::shown;
use fgvr_eval::{
    BootstrapConfig, Embeddings, Interval, SignFlipConfig, class_bootstrap, class_sign_flip,
    half_width, holm,
};
use serde::Serialize;

use crate::answers::Answers;
use crate::compare_figure::CompareFigure;
use crate::config::{Layers, PretrainConfig, Use};
use crate::judge::Parts;
use crate::{EmbeddingTable, Error, JudgedOn, Observer, Result};

/// How features are compared.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// What is compared.
    pub figures: Vec<CompareFigure>,
    /// A difference whose corrected p-value is at most this is called one, in (0, 1).
    pub alpha: f64,
    /// Compare on the images that all sides have, where they differ in images.
    pub common: bool,
    /// Settings `evaluate.*`, each `key.path=value`.
    pub settings: Vec<String>,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            figures: CompareFigure::ALL.to_vec(),
            alpha: 0.05,
            common: false,
            settings: Vec::new(),
        }
    }
}

/// One kind of features: a table, or one for each seed.
#[derive(Clone, Debug)]
pub struct Side {
    /// How it is called.
    pub name: String,
    /// Its features; in several tables the same images, by networks of several seeds.
    pub tables: Vec<EmbeddingTable>,
}

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The side that the others are compared with.
    pub reference: String,
    /// The images that are judged.
    pub images: usize,
    /// Their classes.
    pub classes: usize,
    /// The split that they are from.
    pub judged_on: JudgedOn,
    /// The level of the corrected tests.
    pub alpha: f64,
    /// Every other side by every figure: those that are corrected together.
    pub comparisons: Vec<Comparison>,
}

/// One side against the reference by one figure. Figures are fractions in [0, 1].
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The side.
    pub name: String,
    /// The figure.
    pub figure: CompareFigure,
    /// That of the reference; over seeds, the mean.
    pub reference: f64,
    /// That of the side.
    pub value: f64,
    /// The side less the reference, with the 95 % interval by drawing classes.
    pub difference: Interval,
    /// Half the width of the 95 % interval of the mean difference over seeds by Student's t, where both sides have the same
    /// number of tables, two or more, which are paired in their order.
    pub over_seeds: Option<f64>,
    /// By tossing classes ([`class_sign_flip`]), two-sided.
    pub p: f64,
    /// The same by Holm over all comparisons.
    pub p_corrected: f64,
    /// What that shows.
    pub verdict: &'static str,
}

/// One table, judged.
struct Judged {
    answers: Answers,
    /// Judged images by name: their place in `answers` and their class.
    images: BTreeMap<String, (usize, String)>,
    judged_on: JudgedOn,
}

/// Compares every side with the first on the same images.
///
/// # Errors
/// Fewer than two sides, tables without labels, sides with different images (unless `common`) or classes of them,
/// settings that are unknown, an `alpha` out of range.
pub fn compare(
    sides: &[Side],
    options: &CompareOptions,
    observer: &mut dyn Observer,
) -> Result<Compared> {
    let ([reference, _, ..], true) = (sides, !options.figures.is_empty()) else {
        return Err(Error::config(
            "compare",
            "expected two kinds of features or more, and a figure",
        ));
    };
    if !(options.alpha > 0. && options.alpha < 1.) {
        let found = format!("expected a value in (0, 1), found {}", options.alpha);
        return Err(Error::config("--alpha", found));
    }
    let config = config(&options.settings)?;
    let mut judged: Vec<Vec<Judged>> = Vec::new();
    for side in sides {
        let tables = side.tables.iter().enumerate();
        let tables: Result<Vec<Judged>> = tables
            .map(|(seed, table)| {
                let name = match side.tables.len() {
                    1 => side.name.clone(),
                    _ => format!("{}, number {}", side.name, seed + 1),
                };
                judge(table, &name, options, &config, observer)
            })
            .collect();
        judged.push(tables?);
    }
    let (names, classes) = shared(sides, &judged, options.common, observer)?;
    let numbers: BTreeMap<&String, u32> = {
        let distinct: std::collections::BTreeSet<&String> = classes.iter().collect();
        distinct.into_iter().zip(0..).collect()
    };
    let labels: Vec<u32> = classes.iter().map(|class| numbers[class]).collect();

    let mut comparisons = Vec::new();
    for figure in &options.figures {
        let base = of_side(&judged[0], *figure, &names);
        for (side, judged) in sides.iter().zip(&judged).skip(1) {
            let values = of_side(judged, *figure, &names);
            comparisons.push(one(&side.name, *figure, [&base, &values], &labels)?);
        }
    }
    let p: Vec<f64> = comparisons.iter().map(|comparison| comparison.p).collect();
    for (comparison, p) in comparisons.iter_mut().zip(holm(&p)) {
        comparison.p_corrected = p;
        comparison.verdict = match comparison.difference.mean {
            _ if p > options.alpha => "no difference shown",
            mean if mean > 0. => "better",
            _ => "worse",
        };
    }
    Ok(Compared {
        reference: reference.name.clone(),
        images: names.len(),
        classes: numbers.len(),
        judged_on: judged[0][0].judged_on,
        alpha: options.alpha,
        comparisons,
    })
}

fn config(settings: &[String]) -> Result<PretrainConfig> {
    let mut layers = Layers::default();
    for setting in settings {
        layers.set_for(Use::Evaluate, setting)?;
    }
    layers.resolve_frozen()
}

/// What each judged image of a table comes to.
fn judge(
    table: &EmbeddingTable,
    name: &str,
    options: &CompareOptions,
    config: &PretrainConfig,
    observer: &mut dyn Observer,
) -> Result<Judged> {
    let parts = Parts::of(table, name, observer)?;
    observer.on_phase(&format!("judging {name}"));
    let set = |rows: &[usize]| -> Result<Embeddings> {
        let values = rows
            .iter()
            .flat_map(|row| &table.features[row * table.width..][..table.width]);
        let values: Vec<f32> = values.copied().collect();
        let labels = rows.iter().map(|row| table.labels[*row]);
        let labels = labels
            .filter_map(|label| u32::try_from(label).ok())
            .collect();
        let features = Tensor::from_vec(values, (rows.len(), table.width), &Device::Cpu)?;
        Ok(Embeddings::new(features, labels)?)
    };
    let (database, queries) = (set(&parts.train)?, set(&parts.judged)?);
    let wants = |figure| options.figures.contains(&figure);
    let knn = wants(CompareFigure::Knn).then_some(&config.evaluate.knn);
    let linear = wants(CompareFigure::Linear).then_some(&config.evaluate.linear);
    let answers = Answers::of([&database, &queries], knn, linear)?;
    let mut images = BTreeMap::new();
    for (place, row) in parts.judged.iter().enumerate() {
        let class = usize::try_from(table.labels[*row]).ok();
        let class = class.and_then(|class| table.classes.get(class));
        let class = class
            .cloned()
            .unwrap_or_else(|| table.labels[*row].to_string());
        let path = &table.paths[*row];
        if images.insert(path.clone(), (place, class)).is_some() {
            let problem = format!(
                "has two rows of {}, so images cannot be paired",
                shown(path)
            );
            return Err(Error::config(name, problem));
        }
    }
    Ok(Judged {
        answers,
        images,
        judged_on: parts.judged_on,
    })
}

/// The images that are compared on, by name, and their classes.
fn shared(
    sides: &[Side],
    judged: &[Vec<Judged>],
    common: bool,
    observer: &mut dyn Observer,
) -> Result<(Vec<String>, Vec<String>)> {
    let first = &judged[0][0];
    let mut kept: BTreeMap<&String, &String> = first
        .images
        .iter()
        .map(|(name, (_, class))| (name, class))
        .collect();
    for (side, tables) in sides.iter().zip(judged) {
        for table in tables {
            let lacking: Vec<&String> = first
                .images
                .keys()
                .filter(|n| !table.images.contains_key(*n))
                .collect();
            let more: Vec<&String> = table
                .images
                .keys()
                .filter(|n| !first.images.contains_key(*n))
                .collect();
            if !common && let Some(example) = lacking.first().or(more.first()) {
                return Err(Error::config(
                    &side.name,
                    format!(
                        "is of other judged images than {}: {} are only there and {} only here, such as {}; --common compares on \
                         those that both have",
                        sides[0].name,
                        lacking.len(),
                        more.len(),
                        shown(example)
                    ),
                ));
            }
            kept.retain(|name, _| table.images.contains_key(*name));
            for (name, class) in &kept {
                let other = &table.images[*name].1;
                if other != *class {
                    return Err(Error::config(
                        &side.name,
                        format!(
                            "says that {} is of class {}, and {} says {}; labels must be the same",
                            shown(name),
                            shown(other),
                            sides[0].name,
                            shown(class)
                        ),
                    ));
                }
            }
        }
    }
    if kept.is_empty() {
        return Err(Error::config(
            "compare",
            "the sides have no judged image in common",
        ));
    }
    if kept.len() < first.images.len() || common {
        observer.on_message(&format!(
            "compared on the {} judged images that all sides have; {} has {}",
            kept.len(),
            sides[0].name,
            first.images.len()
        ));
    }
    Ok((
        kept.keys().map(|n| (*n).clone()).collect(),
        kept.values().map(|c| (*c).clone()).collect(),
    ))
}

/// Values of the images by table; none where an image has no answer.
fn of_side(tables: &[Judged], figure: CompareFigure, names: &[String]) -> Vec<Vec<Option<f64>>> {
    let of = |table: &Judged| {
        let values = table.answers.values(figure);
        names
            .iter()
            .map(|name| values[table.images[name].0])
            .collect()
    };
    tables.iter().map(of).collect()
}

/// A side against the reference by one figure; what is corrected over all is filled in later.
fn one(
    name: &str,
    figure: CompareFigure,
    [base, side]: [&Vec<Vec<Option<f64>>>; 2],
    labels: &[u32],
) -> Result<Comparison> {
    let mean_of = |tables: &[Vec<Option<f64>>], image: usize| -> Option<f64> {
        let values: Option<Vec<f64>> = tables.iter().map(|table| table[image]).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (mut rows, mut asked) = ([Vec::new(), Vec::new()], Vec::new());
    for (image, label) in labels.iter().enumerate() {
        if let (Some(a), Some(b)) = (mean_of(base, image), mean_of(side, image)) {
            rows[0].push(a);
            rows[1].push(b);
            asked.push(*label);
        }
    }
    let found = class_bootstrap(&[&rows[0], &rows[1]], &asked, &BootstrapConfig::default())?;
    let differences: Vec<f64> = rows[1].iter().zip(&rows[0]).map(|(b, a)| b - a).collect();
    let p = class_sign_flip(&differences, &asked, &SignFlipConfig::default())?;
    let over_seeds = match base.len() == side.len() {
        true => {
            let mean = |table: &Vec<Option<f64>>| {
                let values: Vec<f64> = table.iter().flatten().copied().collect();
                values.iter().sum::<f64>() / values.len() as f64
            };
            let pairs = base.iter().zip(side).map(|(a, b)| mean(b) - mean(a));
            half_width(&pairs.collect::<Vec<f64>>())
        }
        false => None,
    };
    Ok(Comparison {
        name: name.to_owned(),
        figure,
        reference: found[0].value.mean,
        value: found[1].value.mean,
        difference: found[1].gain,
        over_seeds,
        p,
        p_corrected: p,
        verdict: "no difference shown",
    })
}

#[cfg(test)]
mod tests;
