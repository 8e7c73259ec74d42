//! Places of the members that a block of docs/architecture.md lists, and files that have no place there.

use std::path::{Path, PathBuf};

use super::rules::Lists;
use super::{PAGE, Problem};

/// What may stand in the places of a block alone.
pub(super) struct Kept {
    /// The name of the block.
    pub(super) block: &'static str,
    /// What is said of a file elsewhere.
    pub(super) here: &'static str,
    /// What is said of a place without any.
    pub(super) lacks: &'static str,
}

impl Kept {
    /// Problems of `files`, each with the line at which it is first found: those outside the places `allowed`, and places
    /// that have none. The place `*` is all of a member.
    pub(super) fn misplaced(&self, files: &[(&Path, usize)], allowed: &Lists) -> Vec<Problem> {
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
                    self.here,
                    format!("it may stand only in the places listed in {PAGE}"),
                )),
            }
        }
        for (name, place) in unused {
            let Self { block, lacks, .. } = self;
            problems.push(Problem::new(
                Path::new(PAGE),
                1,
                format!("the block `{block}` lists {place} of {name}, which {lacks}"),
                "take it out",
            ));
        }
        problems
    }
}

/// The member of a file as the rules name it, and the file's path inside `src`.
pub(super) fn home(path: &Path) -> Option<(&str, PathBuf)> {
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
    place == "*" || inner.starts_with(place) || inner.with_extension("") == Path::new(place)
}

pub(super) fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_elsewhere_and_a_place_without_any_are_found() {
        let kept = Kept {
            block: "fire",
            here: "fire burns here",
            lacks: "has no fire",
        };
        let allowed = Lists::from([
            (
                "nn".to_owned(),
                vec!["kernels".to_owned(), "buffer".to_owned()],
            ),
            ("bench".to_owned(), vec!["peak".to_owned()]),
            ("ssl".to_owned(), vec!["*".to_owned()]),
        ]);
        let found = |files: &[&str]| -> Vec<String> {
            let files: Vec<(&Path, usize)> =
                files.iter().map(|file| (Path::new(*file), 3)).collect();
            let problems = kept.misplaced(&files, &allowed);
            problems.iter().map(ToString::to_string).collect()
        };
        let right = [
            "crates/fgvr-nn/src/kernels/conv/tiles.rs",
            "crates/fgvr-nn/src/buffer.rs",
            "crates/fgvr-ssl/src/a/b.rs",
            "benches/src/peak.rs",
        ];
        let none: [&str; 0] = [];
        assert_eq!(found(&right), none);
        for stray in [
            "crates/fgvr-nn/src/tape/mod.rs",
            "crates/fgvr-nn/src/kernels_too.rs",
            "crates/fgvr-nn/tests/kernels/a.rs",
            "crates/fgvr-eval/src/kernels/a.rs",
            "fuzz/src/lib.rs",
        ] {
            let problems = found(&[&right[..], &[stray]].concat());
            assert_eq!(problems.len(), 1, "{stray}");
            assert!(problems[0].starts_with(&format!("{stray}:3: fire burns here")));
        }
        let unused = found(&right[..3]);
        assert_eq!(unused.len(), 1);
        assert!(
            unused[0].contains("the block `fire` lists peak of bench, which has no fire"),
            "{unused:?}"
        );
    }
}
