//! Features judged by the protocols that are asked for, and the table of what they gave.

use std::collections::BTreeSet;

use fgvr_eval::{Interval, JudgeSets, Judged, Protocol, judge};
use fgvr_report::{Align, Table};

use crate::config::EvaluateSettings;
use crate::{Observer, Result};

/// The protocols of `settings` on features of one kind, which `name` says; `None` where none is asked for. Where a class that is
/// judged has nothing to train on, those that learn from training rows are left out: its rows would count as wrong, whatever
/// the features are.
///
/// # Errors
/// Settings out of range, a classifier that diverges.
pub(crate) fn run_protocols(
    settings: &EvaluateSettings,
    sets: JudgeSets<'_>,
    name: &str,
    observer: &mut dyn Observer,
) -> Result<Option<Judged>> {
    let mut protocols = settings.protocols.run.clone();
    if protocols.is_empty() {
        return Ok(None);
    }
    let seen: BTreeSet<u32> = sets.train.labels.iter().copied().collect();
    let mut left_out = Vec::new();
    if !sets.test.labels.iter().all(|label| seen.contains(label)) {
        protocols.retain(|protocol| {
            use Protocol::{Knn, Labels, Linear, Sgd};
            let learns = matches!(protocol, Knn | Linear | Sgd | Labels);
            if learns {
                let reason = "a class that is judged has nothing to train on";
                left_out.push(format!("{protocol}: {reason}"));
            }
            !learns
        });
    }
    let begun = |protocol| observer.on_phase(&format!("judging {name}: {protocol}"));
    let mut judged = judge(sets, &protocols, &settings.protocol_config(), begun)?;
    judged.left_out.extend(left_out);
    Ok(Some(judged))
}

/// One figure a row, in percent, with its intervals.
#[must_use]
pub fn protocol_table(judged: &Judged) -> Table {
    let selected = judged.measures.iter().any(|m| m.best_on_test.is_some());
    let mut columns = vec![
        ("figure", Align::Left),
        ("value", Align::Right),
        ("95 % over classes", Align::Right),
        ("over seeds", Align::Right),
    ];
    if selected {
        columns.push(("best on test", Align::Right));
    }
    let mut table = Table::new(&columns);
    let percent = |value: f64| format!("{:.1}", 100. * value);
    for measure in &judged.measures {
        let span = |of: Interval| format!("[{}, {}]", percent(of.low), percent(of.high));
        let mut row = vec![
            measure.name.clone(),
            percent(measure.value),
            measure.over_classes.map_or("-".to_owned(), span),
            measure
                .over_seeds
                .map_or("-".to_owned(), |half| format!("± {}", percent(half))),
        ];
        if selected {
            row.push(measure.best_on_test.map_or(String::new(), percent));
        }
        table.push(row);
    }
    table
}

/// What stands below the table: what its columns say, what is left out, and how long each protocol took.
#[must_use]
pub fn protocol_notes(judged: &Judged) -> Vec<String> {
    let mut lines = vec![
        "over classes: 95 % of samples of the classes judged".to_owned(),
        "over seeds: 95 % interval of the mean by Student's t".to_owned(),
    ];
    if judged.measures.iter().any(|m| m.best_on_test.is_some()) {
        lines.push(
            "best on test: the best epoch, selected on the images judged; comparable with papers, no result"
                .to_owned(),
        );
    }
    lines.extend(
        judged
            .left_out
            .iter()
            .map(|left| format!("left out: {left}")),
    );
    let seconds = judged
        .seconds
        .iter()
        .map(|(protocol, s)| format!("{protocol} {s:.1} s"));
    let seconds: Vec<_> = seconds.collect();
    for (at, some) in seconds.chunks(4).enumerate() {
        let first = if at == 0 { "took" } else { "    " };
        lines.push(format!("{first} {}", some.join(", ")));
    }
    lines
}
