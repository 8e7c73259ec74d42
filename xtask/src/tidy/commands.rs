//! Commands of xtask that pages show: command and options are there.
//!
//! The options of the program `fgvr` are checked by its own tests.

use std::path::Path;

use super::Problem;
use super::markdown::lines;
use crate::nearest::nearest;
use crate::{bench, fuzz, help, interchange, kernels, parity};

/// Commands of the page `page` that xtask does not know, and options of its own commands that their help does
/// not name.
pub(super) fn unknown(page: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for line in lines(text) {
        for command in shown(line.text) {
            let name = command[0];
            if !help::names().any(|known| known == name) {
                let hint = nearest(name, help::names())
                    .map_or(String::new(), |near| format!(" (`{near}`?)"));
                problems.push(Problem::new(
                    page,
                    line.number,
                    format!("there is no command `cargo xtask {name}`"),
                    format!("name one that there is{hint}"),
                ));
            }
            let Some(usage) = usage(name) else { continue };
            let options = command.iter().filter(|word| word.starts_with("--"));
            let options = options.filter_map(|word| word.split('=').next());
            for option in options.filter(|option| !names(usage, option)) {
                problems.push(Problem::new(
                    page,
                    line.number,
                    format!("`cargo xtask {name}` has no option {option}"),
                    format!("see `cargo xtask {name} --help`"),
                ));
            }
        }
    }
    problems
}

/// The words of each command after `cargo xtask`.
fn shown(line: &str) -> impl Iterator<Item = Vec<&str>> {
    const CALL: &str = "cargo xtask ";
    line.match_indices(CALL).filter_map(move |(at, _)| {
        let rest = line[at + CALL.len()..].split(" #").next()?;
        let command = rest.split('`').next()?;
        let words: Vec<&str> = command.split_whitespace().collect();
        let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
        // Behind a `#` stands a remark about commands, not one to type.
        (words.first().is_some_and(is_name) && !line[..at].contains("# ")).then_some(words)
    })
}

/// The help of a command that is xtask's own and takes options of its own.
fn usage(name: &str) -> Option<&'static str> {
    match name {
        "bench" => Some(bench::USAGE),
        "parity" => Some(parity::USAGE),
        "interchange" => Some(interchange::USAGE),
        "kernels" => Some(kernels::USAGE),
        "fuzz" => Some(fuzz::USAGE),
        _ => None,
    }
}

/// Whether the word `option` stands in the text; every command has `--help`.
fn names(usage: &str, option: &str) -> bool {
    let mut words = usage.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    option == "--help" || words.any(|word| word == option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let problems = unknown(Path::new("docs/a.md"), text);
        problems.into_iter().map(|problem| problem.what).collect()
    }

    // The name apart, so that no page is quoted here.
    fn command(rest: &str) -> String {
        format!("```sh\ncargo xtask {rest}\n```\n")
    }

    #[test]
    fn commands_and_options_that_are_not_there_are_found() {
        let none: [&str; 0] = [];
        for right in [
            "bench all --against torch --device=cuda   # words, and --more",
            "fuzz --minutes 60",
            "kernels bench --emulate",
            "pretrain --whatever the program has",
            "test -p fgvr-nn -- --nocapture",
        ] {
            assert_eq!(found(&command(right)), none, "{right}");
        }
        assert_eq!(
            found("    make it   # cargo xtask does this by itself\n"),
            none
        );
        for (wrong, what) in [
            ("trian", "there is no command `cargo xtask trian`"),
            (
                "bench --agains torch",
                "`cargo xtask bench` has no option --agains",
            ),
            ("fuzz --hours 1", "`cargo xtask fuzz` has no option --hours"),
        ] {
            assert_eq!(found(&command(wrong)), [what]);
        }
        let inline = "say `cargo xtask tidyy`, then `cargo xtask parity --photo DIR`";
        assert_eq!(found(inline).len(), 2);
    }
}
