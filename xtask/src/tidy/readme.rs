//! Rules on a crate's README: an example that runs, and the features there are.

use std::path::Path;

use anyhow::{Context, Result};

use super::Problem;
use super::markdown::{lines, spans};
use crate::workspace;

/// Checks the README of the crate in the folder `member`.
pub(super) fn check(root: &Path, member: &Path, problems: &mut Vec<Problem>) -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(root.join(member).join(name)).ok();
    let manifest = read("Cargo.toml").with_context(|| member.display().to_string())?;
    let (_, features) =
        workspace::name_and_features(&manifest).with_context(|| member.display().to_string())?;
    problems.extend(readme(
        member,
        read("README.md").as_deref(),
        read("src/lib.rs").as_deref(),
        &features,
    ));
    Ok(())
}

fn readme(
    member: &Path,
    readme: Option<&str>,
    library: Option<&str>,
    features: &[String],
) -> Vec<Problem> {
    let file = member.join("README.md");
    let Some(text) = readme else {
        return vec![Problem::new(&file, 1, "there is no README", "write one")];
    };
    let mut problems = Vec::new();
    let rust = text.lines().any(|line| line.starts_with("```rust"));
    // A program alone is used from a shell; its commands are held true by the tests of the pages.
    let shell = library.is_none() && text.lines().any(|line| line == "```sh");
    if !rust && !shell {
        problems.push(Problem::new(
            &file,
            1,
            "the README shows no example",
            "add one that runs, in a ```rust block",
        ));
    } else if rust && !library.is_some_and(|text| text.contains("include_str!(\"../README.md\")")) {
        problems.push(Problem::new(
            &member.join("src/lib.rs"),
            1,
            "the README's example is not tested",
            "include ../README.md as a doctest",
        ));
    }
    for line in lines(text).filter(|line| line.text.starts_with("```rust,ignore")) {
        problems.push(Problem::new(
            &file,
            line.number,
            "this example is not compiled",
            "write it so that it compiles",
        ));
    }
    let (line, told) = told_features(text);
    for feature in features.iter().filter(|feature| !told.contains(feature)) {
        problems.push(Problem::new(
            &file,
            line,
            format!("the README does not say what the feature `{feature}` is for"),
            "say it in a passage that begins with Features",
        ));
    }
    for feature in told.iter().filter(|feature| !features.contains(feature)) {
        problems.push(Problem::new(
            &file,
            line,
            format!("the crate has no feature `{feature}`"),
            "take it out",
        ));
    }
    problems
}

/// The features that the README's passage on them names, and the line it begins on.
fn told_features(text: &str) -> (usize, Vec<String>) {
    let begins = |line: &str| line.starts_with("Features:") || line == "## Features";
    let Some(first) = lines(text).find(|line| begins(line.text)) else {
        return (1, Vec::new());
    };
    let section = first.text.starts_with('#');
    // A section goes on to the next heading, a paragraph to the next empty line.
    let ends = |line: &str| match section {
        true => line.starts_with('#'),
        false => line.is_empty(),
    };
    let is_feature = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let rest = text.lines().skip(first.number);
    let passage = std::iter::once(first.text).chain(rest.take_while(|line| !ends(line)));
    let names = passage.flat_map(spans).filter(is_feature);
    (first.number, names.map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTED: &str = "#[doc = include_str!(\"../README.md\")]";

    fn what(text: Option<&str>, library: &str, features: &[&str]) -> Vec<String> {
        let features: Vec<String> = features.iter().map(ToString::to_string).collect();
        let problems = readme(Path::new("crates/x"), text, Some(library), &features);
        problems.into_iter().map(|p| p.what).collect()
    }

    #[test]
    fn a_readme_needs_an_example_that_is_tested() {
        let example = "# x\n```rust\n```\n";
        assert_eq!(what(None, TESTED, &[]), ["there is no README"]);
        assert_eq!(
            what(Some("# x\n"), TESTED, &[]),
            ["the README shows no example"]
        );
        assert_eq!(
            what(Some(example), "", &[]),
            ["the README's example is not tested"]
        );
        assert!(what(Some(example), TESTED, &[]).is_empty());
        let ignored = format!("{example}```rust,ignore\n```\n");
        assert_eq!(
            what(Some(&ignored), TESTED, &[]),
            ["this example is not compiled"]
        );
    }

    #[test]
    fn a_program_without_a_library_shows_commands() {
        let of_program = |text| readme(Path::new("crates/x"), Some(text), None, &[]);
        assert!(of_program("# x\n```sh\nx --help\n```\n").is_empty());
        assert_eq!(of_program("# x\n")[0].what, "the README shows no example");
        assert_eq!(of_program("# x\n```rust\n```\n").len(), 1);
    }

    #[test]
    fn a_readme_names_the_features_there_are() {
        let example = "# x\n```rust\n```\n";
        let line = format!(
            "{example}\nFeatures: `serde` (`Serialize`),\n`cuda`.\n\n`hub` is no feature.\n"
        );
        let section =
            format!("{example}## Features\n\n- `serde`: x\n- `cuda`: y\n\n## Place\n`hub`\n");
        for text in [line, section] {
            assert!(what(Some(&text), TESTED, &["cuda", "serde"]).is_empty());
            assert_eq!(
                what(Some(&text), TESTED, &["cuda", "hub", "serde"]),
                ["the README does not say what the feature `hub` is for"]
            );
            assert_eq!(
                what(Some(&text), TESTED, &["serde"]),
                ["the crate has no feature `cuda`"]
            );
        }
    }
}
