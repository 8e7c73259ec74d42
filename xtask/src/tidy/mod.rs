//! `cargo xtask tidy`: the rules of this project that no compiler checks.

mod circles;
mod commands;
mod cuda_uses;
mod errors;
mod files;
mod golden;
mod links;
mod manifest;
mod markdown;
mod names;
mod places;
mod readme;
mod rules;
mod tree;
mod unsafe_code;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The page that has the rules.
const PAGE: &str = "docs/architecture.md";

/// Something that breaks a rule, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// File, relative to the workspace.
    file: PathBuf,
    /// Line, from 1.
    line: usize,
    what: String,
    remedy: String,
}

impl Problem {
    fn new(file: &Path, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            line,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            what,
            remedy,
        } = self;
        write!(f, "{}:{line}: {what}, {remedy}", file.display())
    }
}

/// Prints every problem; fails where there is one.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if let Some(arg) = args.first() {
        bail!("tidy takes no arguments, found `{arg}`");
    }
    let problems = check(&workspace::root()?)?;
    for problem in &problems {
        say!("{problem}");
    }
    Ok(if problems.is_empty() {
        say!("tidy: no problem");
        ExitCode::SUCCESS
    } else {
        say!("tidy: {} problems", problems.len());
        ExitCode::FAILURE
    })
}

/// All problems of the workspace at `root`, in order of file and line.
pub(crate) fn check(root: &Path) -> Result<Vec<Problem>> {
    let text = std::fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    let rules = rules::parse(&text).context(PAGE)?;

    let mut problems = Vec::new();
    let members = workspace::members(root)?;
    for member in &members {
        manifest::check(root, member, &rules, &mut problems)?;
        if member.starts_with("crates") {
            readme::check(root, member, &mut problems)?;
        }
    }
    let tracked = tracked(root)?;
    for path in &tracked {
        files::check(root, path, &rules, &mut problems)?;
    }
    golden::check(root, &tracked, &mut problems)?;
    unsafe_code::check(root, &tracked, &rules.unsafe_in, &mut problems)?;
    cuda_uses::check(root, &tracked, &rules.names_cuda, &mut problems)?;
    circles::check(root, &tracked, &rules.no_circles, &mut problems)?;
    let known = names::Known::of(root, &members, &tracked)?;
    problems.extend(names::untold(&text, &known));
    for page in tracked.iter().filter(|path| is_page(path)) {
        links::check(root, page, &mut problems)?;
        let text = std::fs::read_to_string(root.join(page));
        let text = text.with_context(|| page.display().to_string())?;
        problems.extend(names::unknown(page, &text, &known));
        problems.extend(commands::unknown(page, &text));
    }
    tree::check(root, &rules, &mut problems)?;
    problems.sort();
    Ok(problems)
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The files git knows or would add, relative to `root`.
fn tracked(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .context("tidy asks git for the list of files: cannot run git")?;
    if !output.status.success() {
        bail!(
            "tidy asks git for the list of files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let names = names.split('\0').filter(|name| !name.is_empty());
    // A file that was deleted but not yet committed is still listed.
    Ok(names
        .map(PathBuf::from)
        .filter(|path| root.join(path).is_file())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_place_fact_remedy() {
        let problem = Problem::new(Path::new("a/b.rs"), 7, "x is y", "make it z");
        assert_eq!(problem.to_string(), "a/b.rs:7: x is y, make it z");
    }

    #[test]
    fn the_projects_own_rules_parse_and_name_every_member() {
        let root = workspace::root().unwrap();
        let text = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
        let rules = rules::parse(&text).unwrap();
        for member in workspace::members(&root).unwrap() {
            let manifest = std::fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
            let manifest: toml::Table = manifest.parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap();
            let name = manifest::short(name);
            assert!(rules.imports.contains_key(name), "{name}");
        }
    }

    #[test]
    fn this_file_is_tracked() {
        let tracked = tracked(&workspace::root().unwrap()).unwrap();
        assert!(tracked.contains(&PathBuf::from("xtask/src/tidy/mod.rs")));
    }
}
