//! What `cargo xtask` can do, in words.

use crate::nearest::nearest;

/// A command: who does it, its name and arguments, what it does, and an example.
struct Entry(By, &'static str, &'static str, &'static str);

/// Who does the work of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The program `fgvr`, as its command of that name.
    Fgvr,
    /// xtask, perhaps with programs of its own.
    Xtask,
}

use By::{Fgvr, Xtask};

const COMMANDS: &[Entry] = &[
    Entry(
        Fgvr,
        "pretrain [args]",
        "train an encoder without labels",
        "cargo xtask pretrain --data photos --out runs/photos",
    ),
    Entry(
        Fgvr,
        "adapt [args]",
        "adapt a pretrained network to one's own photos, without labels and without training",
        "cargo xtask adapt --weights hf:timm/resnet50.a1_in1k --data photos",
    ),
    Entry(
        Fgvr,
        "eval [args]",
        "measure a trained encoder",
        "cargo xtask eval --run runs/photos",
    ),
    Entry(
        Fgvr,
        "compare A B",
        "compare features on the same images, with corrected tests",
        "cargo xtask compare plain.npz adapted.npz",
    ),
    Entry(
        Fgvr,
        "study FILE",
        "compare arms over seeds and data sets at equal budgets",
        "cargo xtask study my-study.toml --out studies/mine",
    ),
    Entry(
        Fgvr,
        "embed [args]",
        "write the features of photos to a file, by a run's encoder or anyone's weights",
        "cargo xtask embed --run runs/photos --data photos --out photos.npz",
    ),
    Entry(
        Fgvr,
        "export [args]",
        "write a run's encoder for timm, torchvision and transformers",
        "cargo xtask export --run runs/photos --to my-encoder",
    ),
    Entry(
        Fgvr,
        "publish [args]",
        "put an export on the Hub",
        "cargo xtask publish --dir my-encoder --to me/my-encoder",
    ),
    Entry(
        Fgvr,
        "weights inspect SRC",
        "say what pretrained weights hold",
        "cargo xtask weights inspect hf:timm/resnet50.a1_in1k",
    ),
    Entry(
        Fgvr,
        "data check SOURCE",
        "say what a data set holds, and which photos are the same",
        "cargo xtask data check photos",
    ),
    Entry(
        Fgvr,
        "plan [args]",
        "say what a training run would need, without running it",
        "cargo xtask plan --data photos",
    ),
    Entry(
        Fgvr,
        "calibrate [args]",
        "say how hard a data set is, by networks trained with its labels and not trained",
        "cargo xtask calibrate --data builtin:lookalikes",
    ),
    Entry(
        Xtask,
        "sheet OUT.png",
        "draw a sheet of the built-in set",
        "cargo xtask sheet birds.png",
    ),
    Entry(
        Xtask,
        "bench [args]",
        "measure speed and memory, beside PyTorch's if asked; --help says more",
        "cargo xtask bench train --against torch",
    ),
    Entry(
        Xtask,
        "parity [args]",
        "compare every architecture's features and gradients with timm's; --help says more",
        "cargo xtask parity --only resnet18",
    ),
    Entry(
        Xtask,
        "interchange",
        "take weights to timm, torchvision and transformers, and back; --help says more",
        "cargo xtask interchange",
    ),
    Entry(
        Xtask,
        "kernels CMD",
        "list the GPU kernels, compile them (check), run them (test), time them (bench)",
        "cargo xtask kernels check",
    ),
    Entry(
        Xtask,
        "test [args]",
        "run all tests (arguments: those of `cargo test`); --sanitize: the kernels' under AddressSanitizer",
        "cargo xtask test -p fgvr-nn conv",
    ),
    Entry(
        Xtask,
        "fuzz [targets]",
        "feed the readers of weights with damaged files; --minutes N, and --help says more",
        "cargo xtask fuzz --minutes 60",
    ),
    Entry(
        Xtask,
        "ci [stages]",
        "run every check, or those named, and stop at the first that fails",
        "cargo xtask ci format tidy",
    ),
    Entry(
        Xtask,
        "tidy",
        "check the rules of docs/architecture.md that no compiler checks",
        "cargo xtask tidy",
    ),
    Entry(Xtask, "help", "show this text", "cargo xtask help"),
];

/// The help text.
pub(crate) fn text() -> String {
    let mut text = String::from("usage: cargo xtask <command> [args]\n\n");
    for Entry(_, usage, does, _) in COMMANDS {
        text.push_str(&format!("  {usage:<16}  {does}\n"));
    }
    text.push_str(&format!(
        "\n{} build\nthe program `fgvr` for release and become it; `cargo xtask pretrain --help` shows the options of \
         pretrain.\nExamples:\n\n",
        listed(&of_fgvr())
    ));
    for Entry(_, _, _, example) in COMMANDS {
        text.push_str(&format!("  {example}\n"));
    }
    text
}

/// Whether the program `fgvr` does the work of the command `name`.
pub(crate) fn is_of_fgvr(name: &str) -> bool {
    of_fgvr().contains(&name)
}

/// The commands of the program `fgvr`.
fn of_fgvr() -> Vec<&'static str> {
    let entries = names().zip(COMMANDS);
    entries
        .filter(|(_, Entry(by, ..))| *by == Fgvr)
        .map(|(name, _)| name)
        .collect()
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.join(""),
    }
}

/// What to say about a command that does not exist.
pub(crate) fn unknown(name: &str) -> String {
    let hint =
        nearest(name, names()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    let list: Vec<&str> = names().collect();
    format!(
        "error: no command `{name}`{hint}\nthe commands are {}; `cargo xtask help` says more\n",
        list.join(", ")
    )
}

/// The names of all commands.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS
        .iter()
        .filter_map(|Entry(_, usage, ..)| usage.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_names_the_nearest_and_lists_all() {
        let text = unknown("pretrian");
        assert!(text.contains("did you mean `pretrain`?"), "{text}");
        let all = "pretrain, adapt, eval, compare, study, embed, export, publish, weights, data, plan, calibrate, sheet, bench, parity, \
                   interchange, kernels, test, fuzz, ci, tidy, help";
        assert!(text.contains(all), "{text}");
        assert!(!unknown("frobnicate").contains("did you mean"));
    }

    #[test]
    fn every_command_that_becomes_fgvr_is_named_as_such_and_fgvr_has_it() {
        let help = text();
        let sentence = help.lines().find(|line| line.ends_with(" build"));
        let sentence = sentence.unwrap().replace(" and ", ", ");
        let named: Vec<&str> = sentence.trim_end_matches(" build").split(", ").collect();
        // The commands that the program itself knows, from its source: `Pretrain(Pretrain),` and so on.
        let source = crate::workspace::root().unwrap();
        let source = source.join("crates/fgvr/src/args.rs");
        let source = std::fs::read_to_string(source).unwrap();
        let commands = source.split("enum Command {").nth(1).unwrap();
        let commands = commands.split('}').next().unwrap().lines();
        let known: Vec<String> = commands
            .filter_map(|line| {
                Some(
                    line.trim()
                        .strip_suffix("),")?
                        .split('(')
                        .next()?
                        .to_lowercase(),
                )
            })
            .collect();
        let (mut named, mut known) = (named, known);
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
        assert!(named.iter().all(|name| is_of_fgvr(name)));
        assert!(!is_of_fgvr("bench") && !is_of_fgvr("help"));
    }

    #[test]
    fn every_command_has_an_example_that_begins_with_it() {
        for (name, Entry(.., example)) in names().zip(COMMANDS) {
            assert!(
                example.starts_with(&format!("cargo xtask {name}")),
                "{example}"
            );
            assert!(text().contains(example));
        }
    }
}
