//! The choice of a weight decay on held-out training rows.

use crate::embeddings::Rows;
use crate::probe::{OP, fit, places, scaled, within};
use crate::{Error, ProbeConfig};

/// A weight decay and, if it was chosen, its top-1 on the held-out rows.
pub(crate) struct Choice {
    pub(crate) decay: f64,
    pub(crate) top1: Option<f64>,
}

/// The weight decay that does best on held-out rows.
pub(crate) fn choose(
    cfg: &ProbeConfig,
    rows: &Rows,
    targets: &[usize],
    by_class: &[Vec<usize>],
) -> Result<Choice, Error> {
    let held_out = held_out(by_class, cfg.val_fraction);
    if held_out.is_empty() {
        let reason =
            "each class has one training row, so none can be held out to choose the weight decay";
        return Err(Error::Nothing {
            op: OP,
            reason: reason.into(),
        });
    }
    let kept: Vec<usize> = (0..rows.n)
        .filter(|row| held_out.binary_search(row).is_err())
        .collect();
    let of = |part: &[usize]| part.iter().map(|row| targets[*row]).collect::<Vec<_>>();
    let (problem, scaler) = scaled(cfg, rows.select(&kept), of(&kept), by_class.len());
    let mut held_rows = rows.select(&held_out);
    scaler.apply(&mut held_rows);
    let held_targets = of(&held_out);
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
