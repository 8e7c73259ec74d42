//! The table: what labels say of features as they are, adapted, and under the controls.

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use fgvr_eval::{Bootstrapped, Embeddings, effective_rank};
use fgvr_perturb::{AdaptConfig, AdaptKind, Adaptation, Fitter};
use serde::Serialize;

use super::gate::HeldOut;
use super::photos::Queries;
use super::{AdaptOptions, Gate};
use crate::answers::{Answers, intervals};
use crate::{Error, Observer, Result};

/// One row of the table: figures are fractions in [0, 1], with intervals from a bootstrap over classes; gains are over
/// plain features, of the same samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// What was done to the features: `plain`, `adapted`, or a kind of [`AdaptKind`].
    pub name: String,
    /// The kind that it is; `None` for plain features.
    pub kind: Option<AdaptKind>,
    /// Nearest neighbours, from training photos to queries.
    pub knn: Bootstrapped,
    /// Mean average precision of training photos for queries.
    pub map: Bootstrapped,
    /// Linear probe; `None` for the controls, and where the training photos are of one class.
    pub probe: Option<Bootstrapped>,
}

/// The table, and what it is of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Which photos ask.
    pub queries_of: Queries,
    /// How many of them.
    pub queries: usize,
    /// Their classes.
    pub classes: usize,
    /// Photos left out, since there is no training photo of their class.
    pub left_out: usize,
    /// Training photos among which is searched, and which the probe is fitted to.
    pub database: usize,
    /// Plain, centred, adapted, then the controls.
    pub rows: Vec<Judged>,
    /// Controls that could not be fitted, and why.
    pub without: Vec<String>,
}

/// Measures without labels, of photos that are held out; `None` where there are none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelFree {
    /// `plain`, `centred` or `adapted`.
    pub name: String,
    /// The share of photos whose other view is found first.
    pub found_first: Option<f64>,
    /// The mean reciprocal rank of the other view.
    pub reciprocal_rank: Option<f64>,
    /// The share of nearest photos that two halves have in common.
    pub agreement: Option<f64>,
    /// The effective rank of the photos that were fitted to.
    pub effective_rank: f64,
}

/// Features with labels.
pub(super) struct Labelled {
    pub(super) features: Vec<f32>,
    pub(super) labels: Vec<u32>,
}

/// A row's features: how they come from plain ones.
pub(super) struct Row<'a> {
    pub(super) name: String,
    pub(super) kind: Option<AdaptKind>,
    pub(super) adaptation: Option<&'a Adaptation>,
    pub(super) probed: bool,
    /// Those that are searched, and those that ask.
    pub(super) of: [&'a Labelled; 2],
}

/// What was fitted, and to what.
pub(super) struct Fitting<'a> {
    /// (N, C)
    pub(super) plain: &'a [f32],
    pub(super) adaptation: &'a Adaptation,
    pub(super) centred: &'a Adaptation,
    /// The adaptation without the head that was trained behind it, if one was.
    pub(super) closed: Option<&'a Adaptation>,
}

/// Judges plain, centred and adapted features and those of every control.
///
/// # Errors
/// Features that are not finite, or a solver that fails.
pub(super) fn table(
    fitting: &Fitting<'_>,
    fitter: &mut Fitter<'_>,
    (queries_of, database, queries): (Queries, &Labelled, &Labelled),
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<Option<Table>> {
    if asking(database, queries).is_empty() {
        return Ok(None);
    }
    let of = [database, queries];
    let (controls, without) = controls(fitter, options, observer)?;
    let mut rows = vec![
        Row {
            name: "plain".to_owned(),
            kind: None,
            adaptation: None,
            probed: true,
            of,
        },
        Row {
            name: AdaptKind::Centred.name().to_owned(),
            kind: Some(AdaptKind::Centred),
            adaptation: Some(fitting.centred),
            probed: true,
            of,
        },
        Row {
            name: "adapted".to_owned(),
            kind: Some(options.settings.kind),
            adaptation: Some(fitting.adaptation),
            probed: true,
            of,
        },
    ];
    rows.extend(fitting.closed.map(|closed| Row {
        name: "without its head".to_owned(),
        kind: Some(options.settings.kind),
        adaptation: Some(closed),
        probed: true,
        of,
    }));
    rows.extend(controls.iter().map(|adaptation| Row {
        name: adaptation.config().kind.name().to_owned(),
        kind: Some(adaptation.config().kind),
        adaptation: Some(adaptation),
        probed: false,
        of,
    }));
    table_of(rows, queries_of, without, options, observer)
}

/// The queries whose class a photo is of that is searched.
fn asking(database: &Labelled, queries: &Labelled) -> Vec<usize> {
    let seen: BTreeSet<u32> = database.labels.iter().copied().collect();
    (0..queries.labels.len())
        .filter(|query| seen.contains(&queries.labels[*query]))
        .collect()
}

/// What queries came to, row by row.
pub(super) struct Asked {
    /// One for each row.
    pub(super) answers: Vec<Answers>,
    /// The classes of the queries, in their order.
    pub(super) labels: Vec<u32>,
    /// Queries left out, since there is no training photo of their class.
    pub(super) left_out: usize,
    /// Photos among which is searched.
    pub(super) database: usize,
}

/// Asks every query of `rows`, all of the same photos; `None` where there is nobody to ask.
///
/// # Errors
/// Features that are not finite, or a solver that fails.
pub(super) fn ask(
    rows: &[Row<'_>],
    queries_of: Queries,
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<Option<Asked>> {
    let Some([database, queries]) = rows.first().map(|row| row.of) else {
        return Ok(None);
    };
    let asking = asking(database, queries);
    if asking.is_empty() {
        return Ok(None);
    }
    let labels: Vec<u32> = asking.iter().map(|query| queries.labels[*query]).collect();
    let classes = database.labels.iter().collect::<BTreeSet<_>>().len();
    observer.on_phase(&format!(
        "judging {} kinds of features by the labels of {} {} photos",
        rows.len(),
        asking.len(),
        queries_of.name()
    ));
    let mut answers = Vec::new();
    for row in rows {
        let [database, queries] = row.of;
        let width = database.features.len() / database.labels.len().max(1);
        let kept: Vec<f32> = asking
            .iter()
            .flat_map(|query| &queries.features[query * width..(query + 1) * width])
            .copied()
            .collect();
        let set = |features: &[f32], labels: &[u32]| -> Result<Embeddings> {
            let features = match row.adaptation {
                Some(adaptation) => adaptation.apply(features)?,
                None => features.to_vec(),
            };
            let features = Tensor::from_vec(features, (labels.len(), width), &Device::Cpu)?;
            Ok(Embeddings::new(features, labels.to_vec())?)
        };
        let (train, test) = (
            set(&database.features, &database.labels)?,
            set(&kept, &labels)?,
        );
        let linear = (row.probed && classes > 1).then_some(&options.linear);
        answers.push(Answers::of([&train, &test], Some(&options.knn), linear)?);
    }
    Ok(Some(Asked {
        answers,
        left_out: queries.labels.len() - labels.len(),
        database: database.labels.len(),
        labels,
    }))
}

/// The table of `rows`, all of the same photos; gains are over the first.
///
/// # Errors
/// Features that are not finite, or a solver that fails.
pub(super) fn table_of(
    rows: Vec<Row<'_>>,
    queries_of: Queries,
    without: Vec<String>,
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<Option<Table>> {
    let Some(asked) = ask(&rows, queries_of, options, observer)? else {
        return Ok(None);
    };
    let labels = &asked.labels;
    let found = intervals(&asked.answers, labels, &options.settings.bootstrap())?;
    let judged = rows.into_iter().zip(found).map(|(row, found)| {
        // Each query was asked, and the training photos have its class.
        let (Some(knn), Some(map)) = (found.knn, found.map) else {
            return Err(Error::config("adapt", "expected a figure for each row"));
        };
        Ok(Judged {
            name: row.name,
            kind: row.kind,
            knn,
            map,
            probe: found.probe,
        })
    });
    Ok(Some(Table {
        queries_of,
        queries: labels.len(),
        classes: labels.iter().collect::<BTreeSet<_>>().len(),
        left_out: asked.left_out,
        database: asked.database,
        rows: judged.collect::<Result<_>>()?,
        without,
    }))
}

/// All other kinds, fitted to the same photos, and what stands against those that cannot be.
fn controls(
    fitter: &mut Fitter<'_>,
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<(Vec<Adaptation>, Vec<String>)> {
    observer.on_phase("fitting the controls");
    let (mut fitted, mut without) = (Vec::new(), Vec::new());
    for kind in AdaptKind::ALL {
        if kind == options.settings.kind || kind == AdaptKind::Centred {
            continue;
        }
        let config = AdaptConfig {
            kind,
            ..options.settings.config()
        };
        match fitter.fit(&config) {
            Ok(adaptation) => fitted.push(adaptation),
            // Such as a set in which no two photos are neighbours of each other: the other rows stand.
            Err(error) => without.push(format!("{kind}: {error}")),
        }
    }
    Ok((fitted, without))
}

/// Measures without labels of plain, centred and adapted features.
///
/// # Errors
/// Features that are not finite.
pub(super) fn label_free(
    fitting: &Fitting<'_>,
    held_out: &HeldOut,
    gate: &Gate,
    agreement: usize,
) -> Result<Vec<LabelFree>> {
    let rows = [
        ("plain", None),
        ("centred", Some(fitting.centred)),
        ("adapted", Some(fitting.adaptation)),
    ];
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let mut measured: Vec<LabelFree> = Vec::new();
    for (name, adaptation) in rows {
        let means = match gate.measures.is_empty() {
            true => [None; 3],
            false => held_out
                .measure(adaptation, fitting.plain, agreement)?
                .map(|values| Some(mean(&values))),
        };
        // A mean that is taken off changes no covariance.
        let rank = match measured.last() {
            Some(LabelFree { effective_rank, .. }) if name == "centred" => *effective_rank,
            _ => rank_of(fitting, adaptation)?,
        };
        let [found_first, reciprocal_rank, agreement] = means;
        measured.push(LabelFree {
            name: name.to_owned(),
            found_first,
            reciprocal_rank,
            agreement,
            effective_rank: rank,
        });
    }
    Ok(measured)
}

/// The effective rank of the photos that were fitted to.
fn rank_of(fitting: &Fitting<'_>, adaptation: Option<&Adaptation>) -> Result<f64> {
    let features = match adaptation {
        Some(adaptation) => adaptation.apply(fitting.plain)?,
        None => fitting.plain.to_vec(),
    };
    let width = fitting.adaptation.width();
    let shape = (features.len() / width, width);
    let features = Tensor::from_vec(features, shape, &Device::Cpu)?;
    Ok(effective_rank(&features)?)
}
