//! What stands anywhere below a crate that is built without features.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Problem;
use super::rules::Rules;
use crate::command::Cargo;

/// Checks each crate that the page says something of.
pub(super) fn check(root: &Path, rules: &Rules, problems: &mut Vec<Problem>) -> Result<()> {
    for (short, never) in &rules.never_below {
        let call = Cargo::new([
            "tree",
            "-p",
            &format!("fgvr-{short}"),
            "--no-default-features",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ]);
        let output = call
            .command()
            .current_dir(root)
            .output()
            .with_context(|| format!("cannot run `{call}`"))?;
        if !output.status.success() {
            bail!(
                "`{call}`: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let tree = String::from_utf8_lossy(&output.stdout);
        let file = Path::new("crates").join(format!("fgvr-{short}/Cargo.toml"));
        for name in found(&tree, never) {
            problems.push(Problem::new(
                &file,
                1,
                format!("{name} is below it without any feature"),
                format!("put what brings it behind a feature; `{call} --invert {name}` shows it"),
            ));
        }
    }
    Ok(())
}

/// Those of `never` that stand in a tree with a package a line.
fn found<'n>(tree: &str, never: &'n [String]) -> Vec<&'n str> {
    let below = |name: &&str| {
        tree.lines()
            .any(|line| line.split_whitespace().next() == Some(*name))
    };
    never.iter().map(String::as_str).filter(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn a_package_is_found_by_its_whole_name() {
        let never = ["tokio".to_string(), "hyper".to_string()];
        assert!(found("a v1\ntokio-util v1\n", &never).is_empty());
        assert_eq!(found("a v1\nhyper v1.2 (*)\n", &never), ["hyper"]);
    }

    #[test]
    fn the_check_sees_what_is_there() {
        let page = "```text imports\n```\n```text only-in\n```\n```text nothing-else\n```\n\
                    ```text own-range\n```\n```text never-below\nencoder: candle-core no-such-crate\n```\n```text unsafe\n```\n\
                    ```text names-cuda\n```\n```text no-circles\n```\n";
        let rules = super::super::rules::parse(page).unwrap();
        let mut problems = Vec::new();
        check(&workspace::root().unwrap(), &rules, &mut problems).unwrap();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().contains("candle-core is below it"));
    }
}
