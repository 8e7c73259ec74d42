//! Rules on the manifest of each member.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::rules::Rules;
use super::{PAGE, Problem};

/// Checks the member in the folder `member`.
pub(super) fn check(
    root: &Path,
    member: &Path,
    rules: &Rules,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let file = member.join("Cargo.toml");
    let text =
        std::fs::read_to_string(root.join(&file)).with_context(|| file.display().to_string())?;
    problems.extend(manifest(&file, &text, rules)?);
    Ok(())
}

fn manifest(file: &Path, text: &str, rules: &Rules) -> Result<Vec<Problem>> {
    let table = DeTable::parse(text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let table = table.get_ref();
    let line = |at: usize| text[..at].matches('\n').count() + 1;
    let mut problems = Vec::new();
    let mut say = |at: usize, what: String, remedy: String| {
        problems.push(Problem::new(file, line(at), what, remedy));
    };

    let from_workspace = |value: Option<&Spanned<DeValue<'_>>>| {
        value.is_some_and(|value| {
            value
                .get_ref()
                .get("workspace")
                .is_some_and(|v| v.get_ref().as_bool() == Some(true))
        })
    };
    let package = table
        .get("package")
        .and_then(|package| package.get_ref().as_table());
    let package = package.with_context(|| format!("{}: no [package]", file.display()))?;
    let name = package.get("name").and_then(|name| name.get_ref().as_str());
    let name = name.with_context(|| format!("{}: no package.name", file.display()))?;
    let short = short(name);
    for field in ["version", "edition", "rust-version", "license"] {
        if !from_workspace(package.get(field)) {
            let at = package.get(field).map_or(0, |value| value.span().start);
            say(
                at,
                format!("{field} is not the workspace's"),
                format!("write `{field}.workspace = true`"),
            );
        }
    }
    if !from_workspace(table.get("lints")) {
        let remedy = "add `[lints]` with `workspace = true`".to_string();
        say(0, "the workspace's lints are not taken".to_string(), remedy);
    }

    let Some(allowed) = rules.imports.get(short) else {
        say(
            0,
            format!("{name} has no place among the imports"),
            format!("give it one in {PAGE}"),
        );
        return Ok(problems);
    };
    for (kind, dependencies) in dependency_tables(table) {
        for (key, value) in dependencies {
            let (dependency, at) = (key.get_ref().as_ref(), key.span().start);
            let range = rules.own_range.get(short);
            let ranged = range.is_some_and(|names| names.iter().any(|name| name == dependency));
            if ranged && kind == "dependencies" {
                if from_workspace(Some(value)) {
                    let remedy = format!("write the range of releases that it takes ({PAGE})");
                    say(at, format!("{dependency} is pinned"), remedy);
                }
            } else if !from_workspace(Some(value)) {
                let remedy =
                    format!("write `{dependency}.workspace = true` and the version in the root");
                say(at, format!("{dependency} has a version of its own"), remedy);
            }
            let development = kind == "dev-dependencies";
            if let Some(ours) = dependency.strip_prefix("fgvr-") {
                let listed = allowed.iter().any(|name| name == ours || name == "*");
                let for_tests = development && ours == "testkit";
                if !listed && !for_tests {
                    let may = match allowed.as_slice() {
                        [] => "no fgvr crate".to_string(),
                        some => format!("only {}", some.join(", ")),
                    };
                    let remedy = format!("it may import {may} ({PAGE})");
                    say(at, format!("{name} imports {dependency}"), remedy);
                }
                continue;
            }
            if development {
                continue;
            }
            if let Some(homes) = rules.only_in.get(dependency)
                && !homes
                    .iter()
                    .any(|home| home.split('/').next() == Some(short))
            {
                let remedy = format!("{dependency} belongs only in {} ({PAGE})", homes.join(", "));
                say(at, format!("{name} depends on {dependency}"), remedy);
            }
            if let Some(light) = rules.nothing_else.get(short)
                && !light.iter().any(|name| name == dependency)
            {
                let remedy = format!(
                    "it stays light with {} and nothing else ({PAGE})",
                    light.join(", ")
                );
                say(at, format!("{name} depends on {dependency}"), remedy);
            }
        }
    }
    Ok(problems)
}

/// A crate's name as the rules have it.
pub(super) fn short(name: &str) -> &str {
    name.strip_prefix("fgvr-").unwrap_or(name)
}

/// The tables of dependencies and their kinds, those for some targets included.
fn dependency_tables<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'static str, &'a DeTable<'i>)> {
    let mut found = Vec::new();
    let mut add = |table: &'a DeTable<'i>| {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            if let Some(inner) = table.get(kind).and_then(|value| value.get_ref().as_table()) {
                found.push((kind, inner));
            }
        }
    };
    add(table);
    if let Some(targets) = table
        .get("target")
        .and_then(|value| value.get_ref().as_table())
    {
        for (_, target) in targets {
            if let Some(target) = target.get_ref().as_table() {
                add(target);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: &str = "[package]\nname = \"fgvr-NAME\"\nversion.workspace = true\n\
        edition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\n\
        [lints]\nworkspace = true\n";

    fn rules() -> Rules {
        super::super::rules::parse(
            "```text imports\nnn:\ngradcam:\nperturb:\nssl: nn\ntrain: nn ssl\ntests: *\n```\n\
             ```text only-in\nimage: data\nanyhow: train/bin\n```\n\
             ```text nothing-else\ngradcam: candle-core\n```\n\
             ```text own-range\nperturb: rand\n```\n```text never-below\n```\n```text unsafe\n```\n```text names-cuda\n```\n\
             ```text no-circles\n```\n",
        )
        .unwrap()
    }

    fn found(name: &str, rest: &str) -> Vec<String> {
        let text = PACKAGE.replace("NAME", name) + rest;
        let problems = manifest(Path::new("Cargo.toml"), &text, &rules()).unwrap();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn allowed_imports_are_no_problem() {
        let none: [&str; 0] = [];
        assert_eq!(
            found(
                "ssl",
                "[dependencies]\nfgvr-nn.workspace = true\n[dev-dependencies]\nfgvr-testkit.workspace = true\nimage.workspace = true\n"
            ),
            none
        );
        assert_eq!(
            found(
                "tests",
                "[dev-dependencies]\nfgvr-ssl = { workspace = true, features = [\"x\"] }\n"
            ),
            none
        );
        assert_eq!(
            found("train", "[dependencies]\nanyhow.workspace = true\n"),
            none
        );
    }

    #[test]
    fn an_import_against_the_order_is_found_with_its_line() {
        let rest = "[dependencies]\nfgvr-nn.workspace = true\nfgvr-train.workspace = true\n";
        assert_eq!(
            found("ssl", rest),
            [
                "Cargo.toml:11: fgvr-ssl imports fgvr-train, it may import only nn (docs/architecture.md)"
            ]
        );
        assert_eq!(
            found("nn", "[dev-dependencies]\nfgvr-ssl.workspace = true\n").len(),
            1
        );
        assert_eq!(
            found("nn", "[dependencies]\nfgvr-testkit.workspace = true\n").len(),
            1
        );
        assert_eq!(
            found(
                "nn",
                "[target.'cfg(unix)'.dependencies]\nfgvr-ssl.workspace = true\n"
            )
            .len(),
            1
        );
    }

    #[test]
    fn external_crates_stay_where_they_belong() {
        let problems = found("nn", "[dependencies]\nimage.workspace = true\n");
        assert!(
            problems[0].contains("image belongs only in data"),
            "{problems:?}"
        );
        let problems = found(
            "gradcam",
            "[dependencies]\ncandle-core.workspace = true\nrand.workspace = true\n",
        );
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("Cargo.toml:11: fgvr-gradcam depends on rand"),
            "{problems:?}"
        );
    }

    #[test]
    fn versions_and_lints_come_from_the_workspace() {
        let problems = found("nn", "[dependencies]\nrand = \"0.10\"\n");
        assert!(
            problems[0].contains("rand has a version of its own"),
            "{problems:?}"
        );
        let range = "[dependencies]\nrand = \">=0.9, <0.11\"\n";
        assert!(found("perturb", range).is_empty());
        let problems = found("perturb", "[dependencies]\nrand.workspace = true\n");
        assert!(problems[0].contains("rand is pinned"), "{problems:?}");
        let text = "[package]\nname = \"fgvr-nn\"\nversion = \"1.0.0\"\n";
        let problems = manifest(Path::new("Cargo.toml"), text, &rules()).unwrap();
        assert_eq!(problems.len(), 5);
        assert_eq!(problems[0].line, 3);
        assert!(problems[4].what.contains("lints"));
    }

    #[test]
    fn a_crate_without_rules_is_a_problem() {
        assert!(found("new", "")[0].contains("has no place among the imports"));
    }
}
