//! Modules of a crate that import each other in a circle, in the crates that docs/architecture.md says have none.
//!
//! What counts is the files and folders right below `src`: a folder is one module, whose inner ones may know each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::places::{home, is_rust};
use super::rules::Lists;
use super::{PAGE, Problem};

/// For each module the modules that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Checks the crates that are listed in `without`.
pub(super) fn check(
    root: &Path,
    tracked: &[PathBuf],
    without: &Lists,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    for name in without.keys() {
        let mut files = Vec::new();
        for path in tracked.iter().filter(|path| is_rust(path)) {
            let Some((_, inner)) = home(path).filter(|(member, _)| member == name) else {
                continue;
            };
            let text = std::fs::read_to_string(root.join(path));
            let text = text.with_context(|| path.display().to_string())?;
            files.push((module(&inner), text));
        }
        let line = |what: String, remedy: &str| Problem::new(Path::new(PAGE), 1, what, remedy);
        if files.is_empty() {
            let what = format!("the block `no-circles` lists {name}, which is no member");
            problems.push(line(what, "take it out"));
        }
        if let Some(circle) = circle(&imports(&files)) {
            let way = circle.join(" imports ");
            let what = format!("modules of {name} import each other in a circle: {way}");
            problems.push(line(what, "move what both need into a module of its own"));
        }
    }
    Ok(())
}

/// The module right below the root that the file `inner` belongs to; empty for the root itself.
fn module(inner: &Path) -> String {
    let first = inner.iter().next().and_then(|part| part.to_str());
    let name = first.unwrap_or_default().trim_end_matches(".rs");
    match name {
        "lib" | "main" | "bin" => String::new(),
        name => name.to_owned(),
    }
}

/// Who imports whom, from the text of each module's files, tests apart.
fn imports(files: &[(String, String)]) -> Imports {
    let known: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    // What the root gives on, by its name there.
    let root = files.iter().filter(|(name, _)| name.is_empty());
    let given: BTreeMap<String, String> = root
        .flat_map(|(_, text)| paths(text, "pub use "))
        .filter_map(|path| {
            let path = path.trim_start_matches("crate::").to_owned();
            let (first, _) = path.split_once("::")?;
            let last = path.rsplit("::").next()?;
            known
                .contains(first)
                .then(|| (last.to_owned(), first.to_owned()))
        })
        .collect();
    let mut imports = Imports::new();
    for (name, text) in files.iter().filter(|(name, _)| !name.is_empty()) {
        let used = imports.entry(name.clone()).or_default();
        for path in paths(text, "crate::") {
            let first = path.split("::").next().unwrap_or_default();
            let module = match known.get(first) {
                Some(module) => Some((*module).to_owned()),
                None => given.get(first).cloned(),
            };
            used.extend(module.filter(|module| module != name));
        }
    }
    imports
}

/// What stands behind `word` in the code before the tests, each path of a group in braces by itself.
fn paths(text: &str, word: &str) -> Vec<String> {
    let text = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(word) {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            expand("", &code[at + word.len()..], &mut found);
        }
    }
    found
}

/// Adds the paths that `rest` begins with to `found`, each behind `prefix`; what is left of `rest`.
fn expand<'t>(prefix: &str, rest: &'t str, found: &mut Vec<String>) -> &'t str {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let rest = rest.trim_start();
    let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
    let (path, mut rest) = rest.split_at(end);
    let path = format!("{prefix}{path}");
    if !rest.starts_with('{') || !path.ends_with("::") && !path.is_empty() {
        found.push(path);
        return rest;
    }
    rest = &rest[1..];
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return behind;
        }
        let left = expand(&path, rest, found);
        // `as other` and a star are passed over.
        let end = left.find([',', '}']).unwrap_or(left.len());
        rest = left[end..].trim_start_matches(',');
        if rest.is_empty() {
            return rest;
        }
    }
}

/// The modules of a circle in their order, the first of them again at the end; `None` where there is no circle.
fn circle(imports: &Imports) -> Option<Vec<String>> {
    // Modules that import none but those that are in no circle are in none either.
    let mut left = imports.clone();
    loop {
        let free: Vec<String> = left
            .iter()
            .filter(|(_, used)| !used.iter().any(|module| left.contains_key(module)))
            .map(|(name, _)| name.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|name, _| !free.contains(name));
    }
    // Whoever is left imports one that is left: going on leads back.
    let mut way = vec![left.keys().next()?.clone()];
    loop {
        let next = left.get(way.last()?)?;
        let next = next
            .iter()
            .find(|module| left.contains_key(*module))?
            .clone();
        let seen = way.iter().position(|module| *module == next);
        way.push(next);
        if let Some(start) = seen {
            return Some(way.split_off(start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Option<String> {
        let files: Vec<(String, String)> = files
            .iter()
            .map(|(path, text)| (module(Path::new(path)), (*text).to_owned()))
            .collect();
        circle(&imports(&files)).map(|circle| circle.join(" "))
    }

    #[test]
    fn circles_are_found_through_groups_and_what_the_root_gives_on() {
        let lib = (
            "lib.rs",
            "mod a;\npub use b::{Thing, other::More};\nmod c;\n",
        );
        let right = [
            lib,
            (
                "a.rs",
                "use crate::{\n    Thing,\n    c::inner::{X, Y as Z},\n};",
            ),
            ("b/mod.rs", "use crate::c;\nuse super::b::other;"),
            ("b/other.rs", "use crate::b::Thing; // crate::a"),
            (
                "c.rs",
                "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n",
            ),
        ];
        assert_eq!(found(&right), None);
        let mut wrong = right;
        wrong[4].1 = "fn f(x: &crate::More) {}";
        assert_eq!(found(&wrong).as_deref(), Some("b c b"));
        wrong[4].1 = "use crate::{a::One};";
        assert_eq!(found(&wrong).as_deref(), Some("a b c a"));
    }

    #[test]
    fn paths_are_told_from_other_names() {
        let none: [&str; 0] = [];
        assert_eq!(paths("my_crate::a; $crate::b;", "crate::"), none);
        assert_eq!(
            paths("crate::a::{b, c::{d, e}}, crate::f(x)", "crate::"),
            ["a::b", "a::c::d", "a::c::e", "f"]
        );
    }
}
