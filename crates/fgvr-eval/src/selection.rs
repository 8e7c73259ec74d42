//! The choice of a weight decay on held-out training rows.

use crate::embeddings::Rows;
use crate::probe::{OP, fit, places, scaled, within};
use crate::{Error, ProbeConfig};

/// A weight decay and, if it was chosen, its top-1 on the held-out rows.
pub(crate) struct Choice {
    pub(crate) decay: f64,
    pub(crate) top1: Option<f64>,
}

/// Rows with classes 0..K, not scaled yet.
pub(crate) struct Labelled {
    pub(crate) rows: Rows,
    pub(crate) targets: Vec<usize>,
}

/// `rows` without and those that are held out of each class, to choose by.
///
/// # Errors
/// No class has two rows.
pub(crate) fn hold_out(
    rows: &Rows,
    targets: &[usize],
    by_class: &[Vec<usize>],
    fraction: f64,
) -> Result<[Labelled; 2], Error> {
    let held_out = held_out(by_class, fraction);
    if held_out.is_empty() {
        let reason = "each class has one training row, so none can be held out to choose the weight decay; give \
                      validation rows or one weight decay";
        return Err(Error::Nothing {
            op: OP,
            reason: reason.into(),
        });
    }
    let kept: Vec<usize> = (0..rows.n)
        .filter(|row| held_out.binary_search(row).is_err())
        .collect();
    Ok([kept, held_out].map(|part| Labelled {
        rows: rows.select(&part),
        targets: part.iter().map(|row| targets[*row]).collect(),
    }))
}

/// The weight decay with which a classifier of `kept` does best on `held_out`.
pub(crate) fn choose(
    cfg: &ProbeConfig,
    classes: usize,
    [kept, held_out]: [Labelled; 2],
) -> Result<Choice, Error> {
    let (problem, scaler) = scaled(cfg, kept.rows, kept.targets, classes);
    let (mut held_rows, held_targets) = (held_out.rows, held_out.targets);
    scaler.apply(&mut held_rows);
    let known: Vec<Option<usize>> = held_targets.iter().copied().map(Some).collect();

    let mut decays = cfg.weight_decays.clone();
    decays.sort_by(|a, b| b.total_cmp(a));
    let mut best: Option<(f64, f64, f64)> = None;
    let mut start = None;
    for decay in decays {
        // From strong to weak, each fit starts where the one before ended.
        let fitted = fit(cfg, &problem, decay, start.take(), |_| Ok(()))?;
        let top1 = within(&places(&fitted.classifier, &held_rows, &known)?, 1);
        let loss = fitted
            .classifier
            .gradient(&held_rows.tensor()?, &held_targets)?
            .loss;
        if best.is_none_or(|(t, l, _)| top1 > t || (top1 == t && loss < l)) {
            best = Some((top1, loss, decay));
        }
        start = Some(fitted.classifier);
    }
    match best {
        Some((top1, _, decay)) => Ok(Choice {
            decay,
            top1: Some(top1),
        }),
        None => Err(Error::Nothing {
            op: OP,
            reason: "no weight decay to choose from".into(),
        }),
    }
}

/// Rows held out, in ascending order: the nearest whole number to `fraction` of each class, but never all
/// of it; one of each class that has two where that gives none at all.
fn held_out(by_class: &[Vec<usize>], fraction: f64) -> Vec<usize> {
    let take = |count: &dyn Fn(usize) -> usize| {
        let mut rows: Vec<usize> = by_class
            .iter()
            .flat_map(|rows| &rows[..count(rows.len()).min(rows.len() - 1)])
            .copied()
            .collect();
        rows.sort_unstable();
        rows
    };
    let rows = take(&|size| (fraction * size as f64).round() as usize);
    if rows.is_empty() { take(&|_| 1) } else { rows }
}
