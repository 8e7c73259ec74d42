//! Where `unsafe` may stand: in the places that docs/architecture.md lists.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Problem;
use super::places::{Kept, is_rust};
use super::rules::Lists;

const UNSAFE: Kept = Kept {
    block: "unsafe",
    here: "unsafe code stands here",
    lacks: "has no unsafe code",
};

/// Checks every tracked Rust file.
pub(super) fn check(
    root: &Path,
    tracked: &[PathBuf],
    allowed: &Lists,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let mut files = Vec::new();
    for path in tracked.iter().filter(|path| is_rust(path)) {
        let text = std::fs::read_to_string(root.join(path));
        let text = text.with_context(|| path.display().to_string())?;
        files.extend(first_line(&text).map(|line| (path.as_path(), line)));
    }
    problems.extend(UNSAFE.misplaced(&files, allowed));
    Ok(())
}

/// The line, from 1, of the first piece of unsafe code.
fn first_line(text: &str) -> Option<usize> {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let position = text.lines().position(|line| has_unsafe(&code(line)));
    position.map(|index| index + 1)
}

fn has_unsafe(code: &str) -> bool {
    const WORD: &str = "unsafe";
    code.match_indices(WORD).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + WORD.len()..];
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || "_\"'`".contains(c));
        let next = after.trim_start();
        let opens = ["{", "fn ", "impl", "extern", "trait"]
            .iter()
            .any(|word| next.starts_with(word));
        // rustfmt may break the line behind the word.
        whole && (opens && next.len() < after.len() || after.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // Put together here so that this file passes its own check.
    const BLOCK: &str = concat!("    un", "safe { f() }");

    #[test]
    fn code_is_told_from_words() {
        // Put together here so that this file passes its own check.
        let word = concat!("un", "safe");
        for text in [
            BLOCK.to_owned(),
            format!("x\n    {word} fn f() {{}}"),
            format!("{word} impl Send for A {{}}"),
            format!("x = {word}\n"),
        ] {
            assert!(first_line(&text).is_some(), "{text}");
        }
        for text in [
            "// unsafe { }",
            "style-src 'unsafe-inline'",
            "deny(unsafe_code)",
            "is unsafe. ",
        ] {
            assert_eq!(first_line(text), None, "{text}");
        }
        assert_eq!(first_line(&format!("a\n{BLOCK}\n")), Some(2));
    }
}
