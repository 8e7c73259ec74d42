//! Every setting that a page names is one, with the default that the page states.

use fgvr_train::PretrainConfig;
use fgvr_train::config::Layers;
use toml::{Table, Value};

use super::{Page, pages};

#[test]
fn settings_that_pages_name_are_there() {
    let mut wrong = Vec::new();
    let mut named = 0;
    for page in pages() {
        for span in page.spans() {
            let Some(setting) = setting(span) else {
                continue;
            };
            named += 1;
            if let Err(problem) = accepted(&mut Layers::default(), &setting) {
                wrong.push(format!("{}: `{span}`: {problem}", page.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(named > 25, "{named} settings were found");
}

#[test]
fn the_defaults_in_tables_of_settings_are_the_programs() {
    for name in ["docs/methods.md", "docs/adapt.md"] {
        let page = Page::read(name);
        let rows = page.table("| setting | default | what it does |");
        assert!(rows.len() > 8, "{name}: {} rows", rows.len());
        let wrong = wrong_defaults(&rows);
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn settings_and_defaults_that_are_not_so_are_found() {
    for right in [
        "moco.queue",
        "arm=base",
        "synthpair.alpha=0",
        "encoder.stem = \"small\"",
        "normalisation.mean=...",
        "addons=[\"NAME\"]",
    ] {
        let setting = setting(right).unwrap();
        accepted(&mut Layers::default(), &setting).unwrap();
    }
    for wrong in [
        "moco.queues",
        "synthpair.pair=feature",
        "encoder.depth = 18",
    ] {
        let setting = setting(wrong).unwrap();
        assert!(
            accepted(&mut Layers::default(), &setting).is_err(),
            "{wrong}"
        );
    }
    for other in [
        "eval.json",
        "weights.json",
        "data.csv",
        "pretext.rs",
        "a = b",
        "base",
        "seed",
    ] {
        assert_eq!(setting(other), None);
    }
    let rows = [
        [
            "`synthpair.curriculum.course`, `.start`",
            "`constant`, 0.2",
            "",
        ],
        ["`synthpair.nu`", "0.25", ""],
        ["`synthpair.mask.rule`", "`intersection`", ""],
        ["`synthpair.new`", "1", ""],
    ];
    assert_eq!(
        wrong_defaults(&rows.map(Vec::from)),
        [
            "synthpair.nu: 0.25 on the page, 0.5 in the program",
            "synthpair.mask.rule: \"intersection\" on the page, \"union\" in the program",
            "synthpair.new: no such setting",
        ]
    );
}

/// Applies a setting; a value that stands for any value need not fit, but its key must be there.
pub(super) fn accepted(layers: &mut Layers, setting: &str) -> Result<(), String> {
    let (key, value) = setting.split_once('=').unwrap_or((setting, "..."));
    let capital = |c: char| c.is_ascii_uppercase();
    let other = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let any = value == "..." || value.contains(capital) && !value.contains(other);
    match layers.set(&format!("{}={}", key.trim(), value.trim())) {
        Err(error) if !any || error.to_string().contains("unknown field") => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// The setting that a span of code names, with its value if it gives one.
fn setting(span: &str) -> Option<String> {
    let (key, value) = match span.split_once('=') {
        Some((key, value)) => (key.trim(), Some(value.trim())),
        None => (span, None),
    };
    let plain = |c: char| c.is_ascii_lowercase() || "_.".contains(c);
    let section = key.split('.').next().unwrap_or_default();
    let is_file = [".json", ".csv", ".rs", ".log", ".svg"]
        .iter()
        .any(|end| key.ends_with(end));
    let known = defaults().contains_key(section) && key.chars().all(plain) && !is_file;
    // A name alone is as often a word.
    let meant = known && (key.contains('.') || value.is_some());
    let value = value.map_or_else(|| "...".to_owned(), str::to_owned);
    meant.then(|| format!("{key}={value}"))
}

/// All settings with their defaults, those apart that have none.
fn defaults() -> Table {
    Table::try_from(PretrainConfig::default()).unwrap()
}

/// Rows of settings and defaults, several in a cell where `.other` stands for a neighbour of the first.
fn wrong_defaults(rows: &[Vec<&str>]) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows {
        let keys = row[0].split(", ").map(|key| key.trim_matches('`'));
        let told = row[1].split(", ").map(|value| value.trim_matches('`'));
        let first = row[0].split('`').nth(1).unwrap_or_default();
        for (key, told) in keys.zip(told) {
            // What an arm sets is no default.
            if key.contains('=') {
                continue;
            }
            let key = match key.strip_prefix('.') {
                Some(last) => format!("{}.{last}", first.rsplit_once('.').unwrap_or_default().0),
                None => key.to_owned(),
            };
            let mut parts = key.split('.');
            let top = parts.next().and_then(|part| defaults().get(part).cloned());
            let found = parts.try_fold(top, |value, part| Some(value.as_ref()?.get(part).cloned()));
            let Some(found) = found.flatten() else {
                wrong.push(format!("{key}: no such setting"));
                continue;
            };
            let told = toml::from_str::<Table>(&format!("v = {told}"))
                .ok()
                .and_then(|mut table| table.remove("v"))
                .unwrap_or_else(|| Value::String(told.to_owned()));
            let number = |value: &Value| {
                let whole = value.as_integer().map(|v| v as f64);
                value.as_float().or(whole)
            };
            let same = found == told || number(&found).is_some() && number(&found) == number(&told);
            if !same {
                wrong.push(format!("{key}: {told} on the page, {found} in the program"));
            }
        }
    }
    wrong
}
