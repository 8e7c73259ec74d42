//! Rules on the text of tracked files.

use std::path::{Component, Path};

use anyhow::{Context, Result};

use super::Problem;
use super::errors;
use super::manifest::short;
use super::rules::Rules;

/// A source file longer than this holds more than one idea.
const MOST_LINES: usize = 500;

// Put together here so that this file passes its own check.
const UNFINISHED: [&str; 2] = [concat!("todo", "!("), concat!("unimplemented", "!(")];
// They panic where nobody reads what they write.
const PRINTS: [&str; 4] = [
    concat!("print", "!("),
    concat!("println", "!("),
    concat!("eprint", "!("),
    concat!("eprintln", "!("),
];
const MACHINE: [&str; 4] = [
    concat!("/", "home"),
    concat!("/", "root"),
    concat!("/", "tmp"),
    concat!("/", "work"),
];

/// Checks the tracked file `path`; what is not text is left alone.
pub(super) fn check(
    root: &Path,
    path: &Path,
    rules: &Rules,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let bytes = std::fs::read(root.join(path)).with_context(|| path.display().to_string())?;
    if let Ok(text) = String::from_utf8(bytes)
        && !text.contains('\0')
    {
        problems.extend(text_problems(path, &text, rules));
    }
    Ok(())
}

fn text_problems(path: &Path, text: &str, rules: &Rules) -> Vec<Problem> {
    let mut problems = Vec::new();
    let code = path.extension().is_some_and(|extension| extension == "rs");
    let in_src = path
        .components()
        .any(|part| part == Component::Normal("src".as_ref()));
    let lines = text.lines().count();
    if code && in_src && lines > MOST_LINES {
        let what = format!("the file has {lines} lines");
        let remedy = format!("split it by idea to at most {MOST_LINES}");
        problems.push(Problem::new(path, MOST_LINES + 1, what, remedy));
    }
    if code {
        problems.extend(errors::problems(path, text));
    }
    let programs_only = if code {
        programs_only(path, rules)
    } else {
        Vec::new()
    };
    for (index, line) in text.lines().enumerate() {
        let mut say = |what: String, remedy: &str| {
            problems.push(Problem::new(path, index + 1, what, remedy));
        };
        if code {
            for word in UNFINISHED.iter().filter(|word| line.contains(**word)) {
                say(
                    format!(
                        "`{}` stands for code that is missing",
                        word.trim_end_matches('(')
                    ),
                    "write the code",
                );
            }
        }
        if code && runs(path) && prints(line) {
            say(
                "the macros that print panic where nobody reads".to_string(),
                "print by the program's `output`; a library prints nothing",
            );
        }
        for place in MACHINE.iter().filter(|place| names_path(line, place)) {
            say(
                format!("`{place}` is a path of one machine"),
                "use a relative path or a variable",
            );
        }
        for name in programs_only
            .iter()
            .filter(|name| line.contains(&format!("{name}::")))
        {
            say(format!("the library uses {name}"), "keep it in src/bin");
        }
    }
    problems
}

/// Whether `path` is code that runs outside tests.
fn runs(path: &Path) -> bool {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let tests = parts.contains(&"tests") || parts.last() == Some(&"tests.rs");
    !tests && (parts.contains(&"src") || parts.contains(&"examples"))
}

/// Whether `line` of code, comments apart, prints by a macro of the standard library.
fn prints(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    PRINTS.iter().any(|print| {
        let mut found = code.match_indices(print);
        found.any(|(at, _)| {
            !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
        })
    })
}

/// The external crates that the library of `path`'s crate must leave to the crate's programs.
fn programs_only<'a>(path: &Path, rules: &'a Rules) -> Vec<&'a str> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["crates", name, "src", inner, ..] if *inner != "bin" => {
            let programs = format!("{}/bin", short(name));
            let only = rules
                .only_in
                .iter()
                .filter(|(_, homes)| homes.contains(&programs));
            only.map(|(external, _)| external.as_str()).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether `line` names the absolute path `place` or one below it.
fn names_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        let part = |c: char| c.is_alphanumeric() || "_-.~".contains(c);
        // Not the end of a relative path or an address, and not the beginning of a longer name.
        !before.is_some_and(|c| part(c) || "/}>)".contains(c))
            && !after.is_some_and(|c| c != '.' && part(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let mut rules = Rules::default();
        rules.only_in.insert("clap".into(), vec!["cuda/bin".into()]);
        let problems = text_problems(Path::new(path), text, &rules);
        problems
            .iter()
            .map(|p| format!("{}: {}", p.line, p.what))
            .collect()
    }

    #[test]
    fn missing_code_is_found_in_code_only() {
        let text = format!("fn f() {{\n    {})\n}}\n", UNFINISHED[0]);
        assert_eq!(
            found("crates/fgvr-nn/src/a.rs", &text),
            ["2: `todo!` stands for code that is missing"]
        );
        assert!(found("a.md", &text).is_empty());
    }

    #[test]
    fn what_prints_by_a_macro_is_found_outside_tests_and_comments() {
        let what = "the macros that print panic where nobody reads";
        for print in PRINTS {
            let line = format!("    {print}\"x\");\n");
            for path in [
                "crates/fgvr-nn/src/a.rs",
                "xtask/src/a.rs",
                "crates/fgvr-nn/examples/a.rs",
            ] {
                assert_eq!(found(path, &line), [format!("1: {what}")], "{line}");
            }
            for path in [
                "crates/fgvr-nn/tests/a.rs",
                "crates/fgvr-nn/src/a/tests.rs",
                "a.md",
            ] {
                assert!(found(path, &line).is_empty(), "{path}");
            }
            for line in [format!("    // {print}x\n"), format!("    my_{print}x)\n")] {
                assert!(found("crates/fgvr-nn/src/a.rs", &line).is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn a_long_source_file_is_found() {
        let text = "//\n".repeat(MOST_LINES + 1);
        assert_eq!(
            found("crates/fgvr-nn/src/a.rs", &text),
            ["501: the file has 501 lines"]
        );
        assert!(found("crates/fgvr-nn/src/a.rs", &text[3..]).is_empty());
        assert!(found("crates/fgvr-nn/tests/a.rs", &text).is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found_and_lookalikes_are_not() {
        for place in MACHINE {
            for line in [
                format!("at {place}/x"),
                format!("\"{place}\""),
                place.to_string(),
                format!("cd {place}."),
            ] {
                assert_eq!(found("a.md", &line).len(), 1, "{line}");
            }
            for line in [
                format!("a{place}/x"),
                format!("..{place}"),
                format!("{place}space"),
                format!("{{x}}{place}"),
            ] {
                assert!(found("a.md", &line).is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn a_library_leaves_the_crates_of_programs_to_src_bin() {
        let text = "use clap::Parser;\n";
        assert_eq!(
            found("crates/fgvr-cuda/src/lib.rs", text),
            ["1: the library uses clap"]
        );
        assert!(found("crates/fgvr-cuda/src/bin/kernels/main.rs", text).is_empty());
        assert!(found("crates/fgvr-nn/src/lib.rs", text).is_empty());
    }
}
