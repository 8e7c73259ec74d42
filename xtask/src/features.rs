//! Whether a crate that is tested alone finds its external crates compiled.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use crate::command::Cargo;
use crate::workspace;

/// The crate that names external crates so that all test builds have one set of their features.
const UNIFIER: &str = "fgvr-testkit";

/// Compares, for each crate whose tests use `fgvr-testkit`, the features of its external crates with those that the
/// whole workspace has: where they differ, the crate and all that stand on it are compiled once more.
///
/// # Errors
/// The differences, and what cargo says.
pub(crate) fn check(root: &Path) -> Result<Option<String>> {
    let (together, _) = tree(root, &["--workspace"])?;
    let mut problems = Vec::new();
    for member in workspace::members(root)? {
        let Some(name) = member.strip_prefix("crates").ok().and_then(Path::to_str) else {
            continue;
        };
        let (alone, unified) = tree(root, &["-p", name])?;
        if !unified {
            continue;
        }
        let other = alone.difference(&together).map(String::as_str);
        problems.extend(other.map(|line| format!("{name} alone: {line}")));
    }
    if problems.is_empty() {
        return Ok(None);
    }
    bail!(
        "{}\ncompiled with other features in the whole workspace; name the features that are missing in {UNIFIER}'s \
         manifest, so that nothing is compiled twice",
        problems.join("\n")
    )
}

/// The external crates below `which` with version and features, and whether fgvr-testkit is among the others.
fn tree(root: &Path, which: &[&str]) -> Result<(BTreeSet<String>, bool)> {
    let call = Cargo::new(["tree", "--prefix", "none", "--format", "{p} {f}"])
        .args(["--edges", "normal,build,dev"])
        .args(which);
    let (text, _) = call.output(root)?;
    // A star marks what was shown before.
    let lines = text.lines().map(|line| line.trim_end_matches(" (*)"));
    // A member's line has its folder in parentheses.
    let (members, external): (Vec<&str>, Vec<&str>) = lines
        .filter(|line| !line.is_empty())
        .partition(|line| line.contains('('));
    let unified = members.iter().any(|line| line.starts_with(UNIFIER));
    Ok((external.into_iter().map(String::from).collect(), unified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_crates_have_versions_and_members_are_left_out() {
        let root = workspace::root().unwrap();
        let (external, unified) = tree(&root, &["-p", "fgvr-gradcam"]).unwrap();
        assert!(unified);
        assert!(
            external
                .iter()
                .any(|line| line.starts_with("candle-core v"))
        );
        assert!(!external.iter().any(|line| line.starts_with("fgvr")));
    }
}
