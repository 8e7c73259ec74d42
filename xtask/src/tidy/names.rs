//! What pages name in code spans: crates, files, items of the crates. All of it is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::markdown::{lines, spans};
use super::{PAGE, Problem};
use crate::workspace;

/// What can be named.
#[derive(Default)]
pub(super) struct Known {
    /// Packages of the workspace.
    packages: BTreeSet<String>,
    /// Tracked files and the folders above them.
    paths: BTreeSet<PathBuf>,
    /// Words of the crates' sources.
    words: BTreeSet<String>,
}

impl Known {
    /// All there is at `root`.
    pub(super) fn of(root: &Path, members: &[PathBuf], tracked: &[PathBuf]) -> Result<Self> {
        let mut known = Self::default();
        for member in members {
            let file = member.join("Cargo.toml");
            let text = std::fs::read_to_string(root.join(&file));
            let text = text.with_context(|| file.display().to_string())?;
            let named = workspace::name_and_features(&text);
            known
                .packages
                .insert(named.with_context(|| file.display().to_string())?.0);
        }
        for path in tracked {
            // The empty path above all is none.
            let named = path.ancestors().filter(|path| path.parent().is_some());
            known.paths.extend(named.map(Path::to_path_buf));
            let source = path.starts_with("crates") && path.iter().any(|part| part == "src");
            if source && path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(root.join(path));
                let text = text.with_context(|| path.display().to_string())?;
                known.words.extend(words(&text).map(String::from));
            }
        }
        Ok(known)
    }

    /// Whether some file or folder is called so, from the workspace or from a folder below it.
    fn has_path(&self, name: &str) -> bool {
        self.paths.iter().any(|path| path.ends_with(name))
    }

    /// Whether `name` begins as a path of the workspace does, or is a source file's.
    fn is_path(&self, name: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        let first = name.split('/').next().unwrap_or_default();
        let top = name.contains('/') && self.paths.contains(Path::new(first));
        let source = [".rs", ".py", ".cu"].iter().any(|end| name.ends_with(end));
        let inner = name.contains('/') && self.packages.contains(first);
        // `.cu` alone is an ending, `../x` no path of ours.
        name.chars().all(plain) && !name.starts_with('.') && (top || source || inner)
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// What the page `page` names and is not there.
pub(super) fn unknown(page: &Path, text: &str, known: &Known) -> Vec<Problem> {
    let mut problems = Vec::new();
    for line in lines(text).filter(|line| !line.fenced) {
        for span in spans(line.text) {
            let wrong = if is_crate(span) {
                (!known.packages.contains(span)).then(|| format!("there is no crate `{span}`"))
            } else if known.is_path(span) {
                (!known.has_path(span)).then(|| format!("there is no file or folder `{span}`"))
            } else if span.contains("::") {
                let named = span.split('(').next().unwrap_or_default();
                let unknown = words(named).find(|word| !known.words.contains(*word));
                unknown.map(|word| format!("no crate has a `{word}` as in `{span}`"))
            } else {
                None
            };
            if let Some(what) = wrong {
                problems.push(Problem::new(page, line.number, what, "name what is there"));
            }
        }
    }
    problems
}

fn is_crate(span: &str) -> bool {
    let rest = span.strip_prefix("fgvr-");
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_lowercase()))
}

/// Members that the table of crates on docs/architecture.md leaves out. `text` is that page.
pub(super) fn untold(text: &str, known: &Known) -> Vec<Problem> {
    let rows = lines(text).filter(|line| !line.fenced && line.text.starts_with('|'));
    let first = |row: &str| {
        row.split('|')
            .nth(1)
            .and_then(|cell| spans(cell).next().map(String::from))
    };
    let told: BTreeSet<String> = rows.filter_map(|line| first(line.text)).collect();
    let missing = known.packages.iter().filter(|name| !told.contains(*name));
    let problem = |name| {
        let what = format!("no table says what {name} is for");
        Problem::new(Path::new(PAGE), 1, what, "add its row")
    };
    missing.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let paths = [
            "tests",
            "tests/golden",
            "crates",
            "crates/fgvr-ssl",
            "crates/fgvr-ssl/src",
            "crates/fgvr-ssl/src/registry.rs",
        ];
        Known {
            packages: ["fgvr-ssl", "xtask"].map(String::from).into(),
            paths: paths.map(PathBuf::from).into(),
            words: ["fgvr_ssl", "BaseKind", "recipe", "step"]
                .map(String::from)
                .into(),
        }
    }

    #[test]
    fn names_of_what_is_not_there_are_found() {
        let found = |text: &str| -> Vec<String> {
            let problems = unknown(Path::new("docs/a.md"), text, &known());
            problems.into_iter().map(|problem| problem.what).collect()
        };
        let right = "`fgvr-ssl` has `registry.rs` at `fgvr-ssl/src`, `tests/golden`, `BaseKind::recipe`, \
                     `fgvr_ssl::step`, `photos/`, `../x` and `a.pth`.\n```sh\n`gone.rs`\n```\n";
        let none: [&str; 0] = [];
        assert_eq!(found(right), none);
        for (wrong, what) in [
            ("`fgvr-sll`", "there is no crate `fgvr-sll`"),
            ("`regstry.rs`", "there is no file or folder `regstry.rs`"),
            ("`tests/gold`", "there is no file or folder `tests/gold`"),
            (
                "`fgvr-ssl/registry`",
                "there is no file or folder `fgvr-ssl/registry`",
            ),
            (
                "`BaseKind::recipes(x)`",
                "no crate has a `recipes` as in `BaseKind::recipes(x)`",
            ),
        ] {
            assert_eq!(found(wrong), [what]);
        }
    }

    #[test]
    fn a_member_without_a_row_is_found() {
        let both = "| Crate | For |\n|---|---|\n| `fgvr-ssl` | x |\n| `xtask` | y |\n";
        assert!(untold(both, &known()).is_empty());
        let problems = untold(&both.replace("| `xtask` | y |", ""), &known());
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].what, "no table says what xtask is for");
    }
}
