//! A linear classifier on frozen features.

use std::collections::BTreeMap;

use crate::embeddings::{Rows, by_class};
use crate::lbfgs::lbfgs;
use crate::logistic::Classifier;
use crate::ranking::highest;
use crate::scaling::Scaler;
use crate::selection::{Choice, Labelled, choose, hold_out};
use crate::sgd::{normal_start, sgd};
use crate::solver::{Fitted, Problem};
use crate::{Embeddings, Error, ProbeConfig, Solver};

pub(crate) const OP: &str = "linear_probe";

/// What a linear classifier could tell apart.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ProbeReport {
    /// Fraction of test rows whose class has the highest logit.
    pub top1: f64,
    /// Fraction of test rows whose class is among the five highest logits (1 for five classes or
    /// fewer, unless a class is unseen).
    pub top5: f64,
    /// Mean over the test set's classes of their top-1.
    pub mean_per_class: f64,
    /// Top-1 on the training rows.
    pub train_top1: f64,
    /// The weight decay in use.
    pub weight_decay: f64,
    /// Whether it is the largest or smallest of several on offer: the best may lie outside.
    pub weight_decay_at_edge: bool,
    /// Top-1 on the held-out rows that chose it; `None` where there was no choice.
    pub validation_top1: Option<f64>,
    /// Iterations (L-BFGS) or epochs (SGD) of the final fit.
    pub iterations: usize,
    /// Whether L-BFGS reached its tolerance; `None` for SGD.
    pub converged: Option<bool>,
    /// The best test top-1 over SGD's epochs. This is **selection on the test set**, for comparison
    /// with papers that report it; never a result.
    pub best_on_test: Option<f64>,
    /// Test rows of a class that no training row has; they count as wrong.
    pub unseen: usize,
}

/// Fits a linear classifier to `train` and reports its accuracy on `test`, which chooses nothing.
///
/// With several weight decays, a share of each class is held out of `train` by a hash of (seed, row);
/// the decay with the highest top-1 there wins (then the lower cross-entropy, then the larger decay), and
/// the final fit is on all of `train`.
///
/// # Errors
/// What [`Embeddings::new`] refuses, sets of different widths, a training set of one class, one too small
/// to hold rows out of, a configuration out of range, and an SGD that diverges.
pub fn linear_probe(
    train: &Embeddings,
    test: &Embeddings,
    cfg: &ProbeConfig,
) -> Result<ProbeReport, Error> {
    Ok(linear_probe_hits(train, test, cfg)?.0)
}

/// [`linear_probe`], and for each row of `test` whether its class has the highest logit.
///
/// # Errors
/// What [`Embeddings::new`] refuses, sets of different widths, a training set of one class, one too small to hold
/// rows out of, a configuration out of range, and an SGD that diverges.
pub fn linear_probe_hits(
    train: &Embeddings,
    test: &Embeddings,
    cfg: &ProbeConfig,
) -> Result<(ProbeReport, Vec<bool>), Error> {
    probe(train, None, test, cfg)
}

/// [`linear_probe_hits`] with the weight decay chosen on `validation`; nothing is held out of `train`, so that a class
/// of it may have a single row. Rows of `validation` whose class `train` lacks choose nothing.
///
/// # Errors
/// As there, and validation rows of which none has a class of `train`.
pub fn linear_probe_validated(
    train: &Embeddings,
    validation: &Embeddings,
    test: &Embeddings,
    cfg: &ProbeConfig,
) -> Result<(ProbeReport, Vec<bool>), Error> {
    probe(train, Some(validation), test, cfg)
}

fn probe(
    train: &Embeddings,
    validation: Option<&Embeddings>,
    test: &Embeddings,
    cfg: &ProbeConfig,
) -> Result<(ProbeReport, Vec<bool>), Error> {
    cfg.check(OP)?;
    let (rows, mut test_rows) = (train.checked(OP, "train")?, test.checked(OP, "test")?);
    if rows.d != test_rows.d {
        return Err(test_rows.unexpected(OP, "test", format!("(N, {})", rows.d)));
    }
    let by_class = by_class(&train.labels, cfg.seed);
    let classes: BTreeMap<u32, usize> = by_class.keys().copied().zip(0..).collect();
    if let (1, Some(class)) = (classes.len(), train.labels.first()) {
        return Err(Error::OneClass {
            op: OP,
            rows: rows.n,
            class: *class,
        });
    }
    let targets: Vec<usize> = train.labels.iter().map(|label| classes[label]).collect();
    let test_targets: Vec<Option<usize>> = test
        .labels
        .iter()
        .map(|label| classes.get(label).copied())
        .collect();

    let choice = match cfg.weight_decays[..] {
        [only] => Choice {
            decay: only,
            top1: None,
        },
        _ => {
            let parts = match validation {
                Some(validation) => [
                    Labelled {
                        rows: rows.select(&(0..rows.n).collect::<Vec<_>>()),
                        targets: targets.clone(),
                    },
                    of_known_classes(validation, rows.d, &classes)?,
                ],
                None => {
                    let by_class: Vec<_> = by_class.into_values().collect();
                    hold_out(&rows, &targets, &by_class, cfg.val_fraction)?
                }
            };
            choose(cfg, classes.len(), parts)?
        }
    };
    let (problem, scaler) = scaled(cfg, rows, targets, classes.len());
    scaler.apply(&mut test_rows);
    let mut best = None;
    let fitted = fit(cfg, &problem, choice.decay, None, |classifier| {
        let top1 = within(&places(classifier, &test_rows, &test_targets)?, 1);
        best = Some(best.map_or(top1, |before: f64| before.max(top1)));
        Ok(())
    })?;
    let places_of_test = places(&fitted.classifier, &test_rows, &test_targets)?;
    let train_targets: Vec<Option<usize>> = problem.targets.iter().copied().map(Some).collect();
    let edge = |better: fn(f64, f64) -> f64| cfg.weight_decays.iter().copied().reduce(better);
    let edges = [edge(f64::min), edge(f64::max)];
    let hits = places_of_test.iter().map(|place| *place == Some(0));
    let report = ProbeReport {
        top1: within(&places_of_test, 1),
        top5: within(&places_of_test, 5),
        mean_per_class: mean_per_class(&places_of_test, &test.labels),
        train_top1: within(
            &places(&fitted.classifier, &problem.rows, &train_targets)?,
            1,
        ),
        weight_decay: choice.decay,
        weight_decay_at_edge: cfg.weight_decays.len() > 1 && edges.contains(&Some(choice.decay)),
        validation_top1: choice.top1,
        iterations: fitted.iterations,
        converged: fitted.converged,
        best_on_test: best,
        unseen: test_targets
            .iter()
            .filter(|target| target.is_none())
            .count(),
    };
    Ok((report, hits.collect()))
}

/// The validation rows whose class the training rows have.
fn of_known_classes(
    validation: &Embeddings,
    width: usize,
    classes: &BTreeMap<u32, usize>,
) -> Result<Labelled, Error> {
    let rows = validation.checked(OP, "validation")?;
    if rows.d != width {
        return Err(rows.unexpected(OP, "validation", format!("(N, {width})")));
    }
    let known = (0..rows.n).filter_map(|row| Some((row, *classes.get(&validation.labels[row])?)));
    let (known, targets): (Vec<usize>, Vec<usize>) = known.unzip();
    if known.is_empty() {
        let reason = format!(
            "none of the {} validation rows has a class of the training rows",
            rows.n
        );
        return Err(Error::Nothing { op: OP, reason });
    }
    Ok(Labelled {
        rows: rows.select(&known),
        targets,
    })
}

pub(crate) fn scaled(
    cfg: &ProbeConfig,
    mut rows: Rows,
    targets: Vec<usize>,
    classes: usize,
) -> (Problem, Scaler) {
    let scaler = cfg.scaling.fit(&rows);
    scaler.apply(&mut rows);
    (
        Problem {
            rows,
            targets,
            classes,
        },
        scaler,
    )
}

pub(crate) fn fit(
    cfg: &ProbeConfig,
    problem: &Problem,
    decay: f64,
    start: Option<Classifier>,
    after_epoch: impl FnMut(&Classifier) -> Result<(), Error>,
) -> Result<Fitted, Error> {
    match &cfg.solver {
        Solver::Lbfgs(solver) => {
            let start = start.unwrap_or_else(|| Classifier::zeros(problem.classes, problem.rows.d));
            lbfgs(problem, decay, start, solver)
        }
        Solver::Sgd(solver) => {
            let start = normal_start(problem.classes, problem.rows.d, cfg.seed);
            sgd(problem, decay, start, solver, cfg.seed, after_epoch)
        }
    }
}

/// For each row, how many of the first five logits stand before that of its class: `None` where the class
/// is not among them or is unknown. Equal logits go by class.
pub(crate) fn places(
    classifier: &Classifier,
    rows: &Rows,
    targets: &[Option<usize>],
) -> Result<Vec<Option<usize>>, Error> {
    let classes = classifier.bias.len();
    let logits = classifier.logits(&rows.tensor()?)?;
    let place = |(row, target): (&[f32], &Option<usize>)| {
        let target = (*target)?;
        highest(row, classes.min(5))
            .iter()
            .position(|class| *class == target)
    };
    Ok(logits
        .chunks_exact(classes)
        .zip(targets)
        .map(place)
        .collect())
}

pub(crate) fn within(places: &[Option<usize>], limit: usize) -> f64 {
    let hits = places
        .iter()
        .filter(|place| place.is_some_and(|place| place < limit));
    hits.count() as f64 / places.len() as f64
}

fn mean_per_class(places: &[Option<usize>], labels: &[u32]) -> f64 {
    let mut classes: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    for (place, label) in places.iter().zip(labels) {
        let (hits, rows) = classes.entry(*label).or_default();
        *hits += usize::from(*place == Some(0));
        *rows += 1;
    }
    let shares = classes
        .values()
        .map(|(hits, rows)| *hits as f64 / *rows as f64);
    shares.sum::<f64>() / classes.len() as f64
}
