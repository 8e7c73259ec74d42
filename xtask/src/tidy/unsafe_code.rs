//! Where `unsafe` may stand: in the places that docs/architecture.md lists.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::rules::Lists;
use super::{PAGE, Problem};

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
    problems.extend(misplaced(&files, allowed));
    Ok(())
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Problems of `files`, each with the line of its first `unsafe`: those outside the places allowed, and places
/// that need none.
fn misplaced(files: &[(&Path, usize)], allowed: &Lists) -> Vec<Problem> {
    let mut problems = Vec::new();
    let places = allowed
        .iter()
        .flat_map(|(name, places)| places.iter().map(move |place| (name.as_str(), place)));
    let mut unused: Vec<(&str, &String)> = places.collect();
    for (path, line) in files {
        let home = home(path).and_then(|(name, inner)| {
            let places = allowed.get_key_value(name)?;
            let place = places.1.iter().find(|place| is_in(&inner, place))?;
            Some((places.0.as_str(), place))
        });
        match home {
            Some(home) => unused.retain(|place| *place != home),
            None => problems.push(Problem::new(
                path,
                *line,
                "unsafe code stands here",
                format!("it may stand only in the places listed in {PAGE}"),
            )),
        }
    }
    for (name, place) in unused {
        problems.push(Problem::new(
            Path::new(PAGE),
            1,
            format!("the block `unsafe` lists {place} of {name}, which has no unsafe code"),
            "take it out",
        ));
    }
    problems
}

/// The member of a file as the rules name it, and the file's path inside `src`.
fn home(path: &Path) -> Option<(&str, PathBuf)> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["crates", name, "src", inner @ ..] => {
            Some((super::manifest::short(name), inner.iter().collect()))
        }
        ["benches", "src", inner @ ..] => Some(("bench", inner.iter().collect())),
        [name, "src", inner @ ..] => Some((name, inner.iter().collect())),
        _ => None,
    }
}

/// Whether the file `inner` is the module `place` or one below it.
fn is_in(inner: &Path, place: &str) -> bool {
    inner.starts_with(place) || inner.with_extension("") == Path::new(place)
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

    fn allowed() -> Lists {
        Lists::from([
            (
                "nn".to_owned(),
                vec!["kernels".to_owned(), "buffer".to_owned()],
            ),
            ("bench".to_owned(), vec!["peak".to_owned()]),
        ])
    }

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

    #[test]
    fn unsafe_code_elsewhere_and_a_place_without_any_are_found() {
        let found = |files: &[&str]| -> Vec<String> {
            let files: Vec<(&Path, usize)> =
                files.iter().map(|file| (Path::new(*file), 3)).collect();
            let problems = misplaced(&files, &allowed());
            problems.iter().map(ToString::to_string).collect()
        };
        let right = [
            "crates/fgvr-nn/src/kernels/conv/tiles.rs",
            "crates/fgvr-nn/src/buffer.rs",
            "benches/src/peak.rs",
        ];
        let none: [&str; 0] = [];
        assert_eq!(found(&right), none);
        for stray in [
            "crates/fgvr-nn/src/tape/mod.rs",
            "crates/fgvr-nn/src/kernels_too.rs",
            "crates/fgvr-nn/tests/kernels/a.rs",
            "crates/fgvr-ssl/src/kernels/a.rs",
            "fuzz/src/lib.rs",
        ] {
            let problems = found(&[&right[..], &[stray]].concat());
            assert_eq!(problems.len(), 1, "{stray}");
            assert!(problems[0].starts_with(&format!("{stray}:3: unsafe code")));
        }
        let unused = found(&right[..2]);
        assert!(
            unused[0].contains("lists peak of bench, which has no unsafe code"),
            "{unused:?}"
        );
    }
}
