//! Which sources name the crate of GPU kernels: those that docs/architecture.md lists, so that no layer reaches past the
//! one below it unseen. Manifests alone do not show it, since `fgvr-nn` gives the crate on as `fgvr_nn::cuda`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Problem;
use super::places::{Kept, home, is_rust};
use super::rules::Lists;

const CUDA: Kept = Kept {
    block: "names-cuda",
    here: "fgvr-cuda is named here",
    lacks: "does not name fgvr-cuda",
};

/// Checks the tracked Rust files below a `src`; tests may name what they like.
pub(super) fn check(
    root: &Path,
    tracked: &[PathBuf],
    allowed: &Lists,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let mut files = Vec::new();
    for path in tracked.iter().filter(|path| is_rust(path)) {
        let Some((name, _)) = home(path) else {
            continue;
        };
        let text = std::fs::read_to_string(root.join(path));
        let text = text.with_context(|| path.display().to_string())?;
        files.extend(first_line(&text, name == "nn").map(|line| (path.as_path(), line)));
    }
    problems.extend(CUDA.misplaced(&files, allowed));
    Ok(())
}

/// The line, from 1, that first names the crate: by itself, as the module of `fgvr_nn`, or as that of the crate itself
/// where `gives_on` says that this is `fgvr_nn`.
fn first_line(text: &str, gives_on: bool) -> Option<usize> {
    // The `use fgvr_nn::{...}` that is not closed yet.
    let mut open = String::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if !open.is_empty() || code.trim_start().contains(concat!("use fgvr", "_nn::{")) {
            open += code;
        }
        let among = has_word(&open, "cuda");
        if open.contains(';') {
            open.clear();
        }
        let named = has_word(code, concat!("fgvr", "_cuda"))
            || has_word(code, concat!("fgvr", "_nn::cuda"))
            || gives_on && has_word(code, concat!("crate", "::cuda"));
        if named || among {
            return Some(index + 1);
        }
    }
    None
}

/// Whether `code` has `word` by itself, and not as a part of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || "_\"".contains(c);
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Put together here so that this file passes its own check.
    const NN: &str = concat!("fgvr", "_nn");
    const CRATE: &str = concat!("fgvr", "_cuda");

    #[test]
    fn each_way_to_name_the_crate_is_found_and_words_are_not() {
        for (text, line) in [
            (format!("use {CRATE}::Array;"), 1),
            (format!("\nfn f() -> {NN}::cuda::Result<()> {{"), 2),
            (format!("use {NN}::cuda::{{\n    Array,\n}};"), 1),
            (format!("use {NN}::{{Activation, cuda::Array}};"), 1),
            (format!("use {NN}::{{\n    Activation,\n    cuda,\n}};"), 3),
        ] {
            assert_eq!(first_line(&text, false), Some(line), "{text}");
        }
        for text in [
            format!("// see {CRATE}"),
            format!("use {NN}::{{Device, Activation}};\nlet cuda = 1;"),
            format!("use {NN}::cuda_graphs;"),
            format!("\"{CRATE}\""),
            "use crate::cuda::Array;".to_owned(),
        ] {
            assert_eq!(first_line(&text, false), None, "{text}");
        }
        assert_eq!(
            first_line(concat!("use crate", "::cuda::Array;"), true),
            Some(1)
        );
    }

    #[test]
    fn a_use_elsewhere_and_a_place_without_any_are_said() {
        let allowed = Lists::from([
            ("nn".to_owned(), vec!["tape".to_owned()]),
            ("train".to_owned(), vec!["compute".to_owned()]),
        ]);
        let files = [
            (Path::new("crates/fgvr-nn/src/tape/map.rs"), 1),
            (Path::new("crates/fgvr-train/src/session.rs"), 4),
        ];
        let problems = CUDA.misplaced(&files, &allowed);
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("crates/fgvr-train/src/session.rs:4: fgvr-cuda is named here"));
        assert!(said[1].contains("lists compute of train, which does not name fgvr-cuda"));
    }
}
