//! What was measured, in tables.

use super::case::{Goals, Group};
use super::outcome::{Figures, Outcome};
use crate::table::Table;

/// A table with what is said above it.
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) table: Table,
}

/// The tables of a group's outcomes: the comparison first, then every mode.
pub(super) fn parts(group: Group, outcomes: &[Outcome]) -> Vec<Part> {
    let outcomes: Vec<&Outcome> = outcomes.iter().filter(|o| o.case.group == group).collect();
    if outcomes.is_empty() {
        return Vec::new();
    }
    let each = matches!(outcomes[0].case.goals, Goals::Each(_));
    let (title, table) = match group {
        Group::Memory if each => ("Peak memory of training steps", memory_each(&outcomes)),
        Group::Judge => ("Judging features", judging(&outcomes)),
        Group::Train if each => ("Training steps", timed_each(&outcomes)),
        Group::Embed if each => ("Embedding", timed_each(&outcomes)),
        Group::Train => ("Training steps", timed(&outcomes)),
        Group::Embed => ("Embedding", timed(&outcomes)),
        Group::Memory => ("Peak memory of three training steps", memory(&outcomes)),
        Group::Micro => ("Convolutions, GFLOP/s", micro(&outcomes)),
        // They are no outcomes of a timing.
        Group::Gradients => return Vec::new(),
    };
    let mut parts = vec![Part { title, table }];
    if group != Group::Micro && !each && outcomes.iter().any(|o| !o.modes.is_empty()) {
        parts.push(Part {
            title: "All modes",
            table: modes(&outcomes),
        });
    }
    parts
}

/// Every mode that failed, and why: a line each.
pub(super) fn failures(group: Group, outcomes: &[Outcome]) -> Vec<String> {
    let outcomes = outcomes.iter().filter(|o| o.case.group == group);
    let failed = outcomes.flat_map(|outcome| {
        outcome.modes.iter().filter_map(|(mode, figures)| {
            let reason = figures.as_ref().err()?;
            let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
            Some(format!(
                "{}: torch {mode} failed: {reason}",
                outcome.case.name()
            ))
        })
    });
    failed.collect()
}

fn timed(outcomes: &[&Outcome]) -> Table {
    let mut table = Table::new(&[
        "case",
        "ms",
        "±",
        "img/s",
        "torch",
        "±",
        "best mode",
        "ratio",
        "f32",
        "goal",
    ]);
    for outcome in outcomes {
        let mut row = vec![outcome.case.size.clone()];
        row.extend(times(outcome, &outcome.ours));
        match outcome.best() {
            Some((mode, figures)) => {
                let [median, spread, _] = times(outcome, &figures);
                row.extend([median, spread, mode.to_string()]);
            }
            None => row.resize(7, String::new()),
        }
        row.extend(judged(outcome));
        table.row(row);
    }
    table
}

/// Our side with each of PyTorch's modes beside it, a row each.
fn each(
    outcomes: &[&Outcome],
    head: &[&str],
    cells: impl Fn(&Outcome, &Figures) -> Vec<String>,
) -> Table {
    let mut table = Table::new(head);
    for outcome in outcomes {
        let mut row = vec![outcome.case.size.clone()];
        row.extend(cells(outcome, &outcome.ours));
        let width = row.len();
        if outcome.modes.is_empty() {
            table.row(row.clone());
        }
        for (mode, figures) in &outcome.modes {
            row.push((*mode).to_string());
            match figures {
                Ok(figures) => row.extend(cells(outcome, figures)),
                Err(_) => row.push("failed".to_string()),
            }
            row.resize(2 * width, String::new());
            let goal = outcome.case.goals.against(mode);
            row.extend([outcome.ratio_with(figures), goal].map(shown));
            table.row(std::mem::replace(&mut row, vec![String::new(); width]));
        }
    }
    table
}

fn timed_each(outcomes: &[&Outcome]) -> Table {
    let head = [
        "case", "ms", "±", "img/s", "PyTorch", "ms", "±", "img/s", "ratio", "goal",
    ];
    each(outcomes, &head, |outcome, figures| {
        times(outcome, figures).to_vec()
    })
}

/// With the peak memory of the process, the features included, and 10^9 operations a second of the products.
fn judging(outcomes: &[&Outcome]) -> Table {
    let head = [
        "case", "ms", "±", "MiB", "GFLOP/s", "other", "ms", "±", "MiB", "GFLOP/s", "ratio", "goal",
    ];
    each(outcomes, &head, |outcome, figures| {
        let [median, spread, _] = times(outcome, figures);
        let memory = figures.allocated.map_or(String::new(), in_mebibytes);
        let speed = outcome.gigaflops(figures);
        vec![
            median,
            spread,
            memory,
            speed.map_or(String::new(), |speed| format!("{speed:.0}")),
        ]
    })
}

fn memory_each(outcomes: &[&Outcome]) -> Table {
    let head = [
        "case", "MiB", "in use", "PyTorch", "MiB", "in use", "ratio", "goal",
    ];
    each(outcomes, &head, |_, figures| {
        let used = figures.allocated.map_or(String::new(), in_mebibytes);
        vec![mebibytes(figures), used]
    })
}

fn memory(outcomes: &[&Outcome]) -> Table {
    let mut table = Table::new(&[
        "case",
        "MiB",
        "faults/step",
        "torch MiB",
        "faults/step",
        "best mode",
        "ratio",
        "f32",
        "goal",
    ]);
    let cells = |figures: &Figures| [mebibytes(figures), faults(figures)];
    for outcome in outcomes {
        let mut row = vec![outcome.case.size.clone()];
        row.extend(cells(&outcome.ours));
        match outcome.best() {
            Some((mode, figures)) => {
                row.extend(cells(&figures));
                row.push(mode.to_string());
            }
            None => row.resize(6, String::new()),
        }
        row.extend(judged(outcome));
        table.row(row);
    }
    table
}

/// One line a convolution, its passes side by side.
fn micro(outcomes: &[&Outcome]) -> Table {
    const PASSES: [&str; 3] = ["forward", "grad-input", "grad-weight"];
    let mut table = Table::new(&[
        "convolution",
        "forward",
        "torch",
        "grad-input",
        "torch",
        "grad-weight",
        "torch",
    ]);
    let parts = |outcome: &Outcome| -> Option<(String, usize)> {
        let (shape, pass) = outcome.case.size.split_once('/')?;
        let pass = PASSES.iter().position(|known| *known == pass)?;
        Some((shape.to_string(), pass))
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for outcome in outcomes {
        let Some((shape, pass)) = parts(outcome) else {
            continue;
        };
        if rows.last().is_none_or(|row| row[0] != shape) {
            let mut row = vec![String::new(); 1 + 2 * PASSES.len()];
            row[0] = shape;
            rows.push(row);
        }
        let Some(row) = rows.last_mut() else { continue };
        let shown = |figures: &Figures| {
            let speed = outcome.gigaflops(figures);
            speed.map_or(String::new(), |speed| format!("{speed:.0}"))
        };
        row[1 + 2 * pass] = shown(&outcome.ours);
        row[2 + 2 * pass] = outcome.best().map_or(String::new(), |(_, f)| shown(&f));
    }
    rows.into_iter().for_each(|row| table.row(row));
    table
}

fn modes(outcomes: &[&Outcome]) -> Table {
    let memory = outcomes.iter().any(|o| o.case.group == Group::Memory);
    let mut table = Table::new(if memory {
        &["case", "side", "MiB", "faults/step"]
    } else {
        &["case", "side", "ms", "±", "images/s", "faults/step"]
    });
    for outcome in outcomes {
        let ours = ("fgvr", Ok(outcome.ours));
        let sides = std::iter::once(&ours).chain(&outcome.modes);
        for (at, (name, figures)) in sides.enumerate() {
            let size = if at == 0 {
                outcome.case.size.as_str()
            } else {
                ""
            };
            let mut row = vec![size.to_string(), (*name).to_string()];
            match figures {
                Ok(figures) if memory => row.push(mebibytes(figures)),
                Ok(figures) => row.extend(times(outcome, figures)),
                Err(_) => row.push("failed".to_string()),
            }
            row.extend(figures.as_ref().ok().map(faults));
            table.row(row);
        }
    }
    table
}

fn times(outcome: &Outcome, figures: &Figures) -> [String; 3] {
    let summary = figures.summary;
    [
        format!("{:.1}", 1e3 * summary.median),
        format!("{:.1}", 1e3 * summary.iqr),
        format!("{:.1}", outcome.images as f64 / summary.median),
    ]
}

fn mebibytes(figures: &Figures) -> String {
    in_mebibytes(figures.summary.median)
}

fn in_mebibytes(bytes: f64) -> String {
    format!("{:.0}", bytes / f64::from(1 << 20))
}

fn faults(figures: &Figures) -> String {
    figures
        .faults
        .map_or(String::new(), |faults| format!("{faults:.0}"))
}

/// The ratio, that with PyTorch's modes in f32, and the goal.
fn judged(outcome: &Outcome) -> [String; 3] {
    [
        shown(outcome.ratio()),
        shown(outcome.ratio_f32()),
        shown(outcome.case.goals.best()),
    ]
}

fn shown(ratio: Option<f64>) -> String {
    ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{figures, outcome};
    use super::*;

    #[test]
    fn a_comparison_fits_a_hundred_columns() {
        let mut outcomes = vec![outcome(
            Group::Train,
            "synthpair-resnet18-64-b64",
            vec![("channels_last", Ok(figures(12.3456)))],
        )];
        outcomes[0].ours = figures(12.3456);
        for part in parts(Group::Train, &outcomes) {
            for line in part.table.text().lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
        let text = parts(Group::Train, &outcomes)[0].table.text();
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[1..4], ["12345.6", "1234.6", "1.3"]);
        assert_eq!(
            row[4..],
            ["12345.6", "1234.6", "channels_last", "1.00", "1.00", "1.00"]
        );
    }

    #[test]
    fn a_mode_that_failed_stands_in_the_table_with_its_reason_below() {
        let modes = vec![
            ("folded", Ok(figures(1.))),
            ("compiled", Err("no\n  compiler".to_string())),
        ];
        let outcomes = [outcome(Group::Embed, "x", modes)];
        let all = parts(Group::Embed, &outcomes)[1].table.text();
        assert!(all.contains("compiled") && all.contains("failed"), "{all}");
        assert_eq!(
            failures(Group::Embed, &outcomes),
            ["embed/x: torch compiled failed: no compiler"]
        );
        assert!(parts(Group::Train, &outcomes).is_empty());
    }

    #[test]
    fn the_passes_of_a_convolution_stand_in_one_row() {
        let mut outcomes = [
            outcome(
                Group::Micro,
                "n1/forward",
                vec![("channels_last", Ok(figures(1.)))],
            ),
            outcome(Group::Micro, "n1/grad-weight", vec![]),
            outcome(Group::Micro, "n2/grad-input", vec![]),
        ];
        for outcome in &mut outcomes {
            outcome.operations = Some(1e11);
        }
        let text = parts(Group::Micro, &outcomes)[0].table.text();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1], ["n1", "200", "100", "200"]);
        assert_eq!(rows[2], ["n2", "200"]);
    }

    #[test]
    fn on_a_device_each_mode_has_a_row_with_its_goal() {
        let modes = vec![
            ("eager", Ok(figures(12.3456))),
            ("compiled", Err("no compiler".to_string())),
        ];
        let mut outcomes = [outcome(Group::Train, "synthpair-resnet50-224-b256", modes)];
        outcomes[0].case.goals = Goals::Each(&[("eager", 1.2)]);
        outcomes[0].ours = figures(6.1728);
        let parts = parts(Group::Train, &outcomes);
        assert_eq!(parts.len(), 1);
        let text = parts[0].table.text();
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[1][4..],
            ["eager", "12345.6", "1234.6", "1.3", "2.00", "1.20"]
        );
        assert_eq!(rows[2], ["compiled", "failed"]);
        outcomes[0].modes.clear();
        assert_eq!(parts_text(Group::Train, &outcomes).lines().count(), 2);
    }

    fn parts_text(group: Group, outcomes: &[Outcome]) -> String {
        parts(group, outcomes)[0].table.text()
    }

    #[test]
    fn a_devices_memory_has_what_was_taken_and_what_was_in_use() {
        let of = |reserved: f64, used: f64| Figures {
            allocated: Some(used * f64::from(1 << 20)),
            ..figures(reserved * f64::from(1 << 20))
        };
        let mut outcomes = [outcome(Group::Memory, "x", vec![("eager", Ok(of(6., 5.)))])];
        outcomes[0].case.goals = Goals::Each(&[("eager", 1.)]);
        outcomes[0].ours = of(4., 3.);
        let text = parts_text(Group::Memory, &outcomes);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["x", "4", "3", "eager", "6", "5", "1.50", "1.00"]);
    }

    #[test]
    fn memory_is_in_mebibytes() {
        let mut outcomes = [outcome(Group::Memory, "x", vec![])];
        outcomes[0].ours.summary.median = 3. * f64::from(1 << 20);
        let text = parts(Group::Memory, &outcomes)[0].table.text();
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with("x       3           12"),
            "{text}"
        );
    }
}
