//! The tables of `cargo xtask parity`.

use super::Found;
use super::case::{self, Family};
use super::outcome::{Error, OUTPUTS, Outcome};
use super::photos::{self, View};
use crate::table::Table;

/// A table and what it shows.
struct Part {
    title: &'static str,
    table: Table,
}

/// The section of the page with photographs.
pub(super) const PHOTOS: &str = "preprocessing";

/// For the terminal.
pub(super) fn text(found: &Found) -> String {
    let mut parts = networks(&found.outcomes);
    parts.extend(photographs(&found.views));
    let parts = parts
        .iter()
        .map(|part| format!("{}\n\n{}", part.title, part.table.text()));
    parts.collect::<Vec<_>>().join("\n")
}

/// For the page: each family that was compared as a whole, and the photographs where they were, by
/// section. `command` repeats the comparison.
pub(super) fn sections(found: &Found, command: &str) -> Vec<(&'static str, String)> {
    let section = |parts: &[Part]| {
        let parts: Vec<String> = parts
            .iter()
            .map(|part| format!("{}:\n\n{}", part.title, part.table.markdown()))
            .collect();
        format!("{}\n\n`{command}`\n\n{}", found.versions, parts.join("\n"))
    };
    let mut sections = Vec::new();
    for family in Family::ALL {
        let outcomes = found.outcomes.iter();
        let outcomes: Vec<Outcome> = outcomes
            .filter(|outcome| outcome.case.family == family)
            .cloned()
            .collect();
        let all = case::all();
        if outcomes.len() == all.iter().filter(|case| case.family == family).count() {
            sections.push((family.section(), section(&networks(&outcomes))));
        }
    }
    if let Some(part) = photographs(&found.views) {
        sections.push((PHOTOS, section(&[part])));
    }
    sections
}

/// What is too large.
pub(super) fn failures(found: &Found) -> Vec<String> {
    let outcomes = found.outcomes.iter().flat_map(Outcome::failures);
    outcomes
        .chain(found.views.iter().filter_map(View::failure))
        .collect()
}

fn networks(outcomes: &[Outcome]) -> Vec<Part> {
    let mut head = vec!["network", "images"];
    head.extend(OUTPUTS.map(|(_, heading)| heading));
    let (mut timm, mut exact) = (Table::new(&head), Table::new(&head));
    let mut others = Table::new(&["network", "images", "torchvision", "transformers"]);
    for outcome in outcomes {
        let [n, h, w] = outcome.case.images;
        let first = [outcome.case.network.to_string(), format!("{n}x{h}x{w}")];
        let row = |cells: Vec<String>| [&first[..], &cells[..]].concat();
        let errors = outcome.outputs.iter();
        timm.row(row(errors.clone().map(|e| both(e.torch)).collect()));
        let cell = |ours: Error, theirs: Error| format!("{:.1e} / {:.1e}", ours.max, theirs.max);
        exact.row(row(errors.map(|e| cell(e.ours, e.theirs)).collect()));
        if outcome.torchvision.is_some() || outcome.transformers.is_some() {
            let cell = |error: Option<Error>| error.map_or("-".into(), both);
            others.row(row(vec![
                cell(outcome.torchvision),
                cell(outcome.transformers),
            ]));
        }
    }
    let mut parts = Vec::new();
    if !outcomes.is_empty() {
        parts.push(Part {
            title: "Against timm, f32 on both sides: max|a-b| / max|b| (mean|a-b| / mean|b|)",
            table: timm,
        });
        parts.push(Part {
            title: "Against timm in f64, max|a-b| / max|b|: fgvr's f32 / timm's f32",
            table: exact,
        });
    }
    if outcomes
        .iter()
        .any(|outcome| outcome.torchvision.is_some() || outcome.transformers.is_some())
    {
        parts.push(Part {
            title: "Features with running statistics, against other libraries",
            table: others,
        });
    }
    parts
}

fn photographs(views: &[View]) -> Option<Part> {
    (!views.is_empty()).then(|| Part {
        title: "Photographs' files to a network's input, against timm's transforms (PIL), in grey levels of 255",
        table: photos::table(views),
    })
}

fn both(error: Error) -> String {
    format!("{:.1e} ({:.1e})", error.max, error.mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parity::outcome::tests::outcome;

    #[test]
    fn every_output_has_a_column_and_every_case_a_row() {
        let found = Found {
            versions: String::new(),
            outcomes: vec![
                outcome("resnet18", 4e-7, [1e-3, 2e-4]),
                outcome("vit_tiny", 5e-7, [1e-6, 2e-7]),
            ],
            views: Vec::new(),
        };
        let parts = networks(&found.outcomes);
        let text: String = parts.iter().map(|part| part.table.markdown()).collect();
        for part in [
            "| resnet18             | 2x224x224 | 4.0e-7 (2.0e-7) |",
            "| 1.0e-3 (2.0e-4) |\n",
            "| vit_tiny_patch16_224 | 2x224x224 | 1.0e-7 / 2.0e-7 |",
            "| resnet18             | 2x224x224 | 3.0e-7 (1.5e-7) |            - |",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(failures(&found).is_empty());
        // Neither family is whole.
        assert!(sections(&found, "command").is_empty());
    }
}
