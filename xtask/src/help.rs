//! What `cargo xtask` can do, in words.

use crate::nearest::nearest;

/// A command: its name and arguments, what it does, and an example.
struct Entry(&'static str, &'static str, &'static str);

const COMMANDS: &[Entry] = &[
    Entry(
        "pretrain [args]",
        "train an encoder without labels",
        "cargo xtask pretrain --data photos --out runs/photos",
    ),
    Entry(
        "eval [args]",
        "measure a trained encoder",
        "cargo xtask eval --run runs/photos",
    ),
    Entry(
        "study FILE",
        "compare arms over seeds and data sets at equal budgets",
        "cargo xtask study my-study.toml --out studies/mine",
    ),
    Entry(
        "embed [args]",
        "write the features of photos to a file, by a run's encoder or anyone's weights",
        "cargo xtask embed --run runs/photos --data photos --out photos.npz",
    ),
    Entry(
        "export [args]",
        "write a run's encoder for timm, torchvision and transformers",
        "cargo xtask export --run runs/photos --to my-encoder",
    ),
    Entry(
        "publish [args]",
        "put an export on the Hub",
        "cargo xtask publish --dir my-encoder --to me/my-encoder",
    ),
    Entry(
        "weights inspect SRC",
        "say what pretrained weights hold",
        "cargo xtask weights inspect hf:timm/resnet50.a1_in1k",
    ),
    Entry(
        "plan [args]",
        "say what a training run would need, without running it",
        "cargo xtask plan --data photos",
    ),
    Entry(
        "calibrate [args]",
        "say how hard a data set is, by networks trained with its labels and not trained",
        "cargo xtask calibrate --data builtin:lookalikes",
    ),
    Entry(
        "sheet OUT.png",
        "draw a sheet of the built-in set",
        "cargo xtask sheet birds.png",
    ),
    Entry(
        "bench [args]",
        "measure speed and memory, beside PyTorch's if asked; --help says more",
        "cargo xtask bench train --against torch",
    ),
    Entry(
        "parity [args]",
        "compare every architecture's features and gradients with timm's; --help says more",
        "cargo xtask parity --only resnet18",
    ),
    Entry(
        "interchange",
        "take weights to timm, torchvision and transformers, and back; --help says more",
        "cargo xtask interchange",
    ),
    Entry(
        "kernels CMD",
        "list the GPU kernels, compile them (check), run them (test), time them (bench)",
        "cargo xtask kernels check",
    ),
    Entry(
        "test [args]",
        "run all tests (arguments: those of `cargo test`); --sanitize: the kernels' under AddressSanitizer",
        "cargo xtask test -p fgvr-nn conv",
    ),
    Entry(
        "fuzz [targets]",
        "feed the readers of weights with damaged files; --minutes N, and --help says more",
        "cargo xtask fuzz --minutes 60",
    ),
    Entry(
        "ci [stages]",
        "run every check, or those named, and stop at the first that fails",
        "cargo xtask ci format tidy",
    ),
    Entry(
        "tidy",
        "check the rules of docs/architecture.md that no compiler checks",
        "cargo xtask tidy",
    ),
    Entry("help", "show this text", "cargo xtask help"),
];

/// The help text.
pub(crate) fn text() -> String {
    let mut text = String::from("usage: cargo xtask <command> [args]\n\n");
    for Entry(usage, does, _) in COMMANDS {
        text.push_str(&format!("  {usage:<16}  {does}\n"));
    }
    text.push_str(
        "\npretrain, eval, plan and calibrate build the program `fgvr` for release and become it;\n\
         `cargo xtask pretrain --help` shows its options. Examples:\n\n",
    );
    for Entry(_, _, example) in COMMANDS {
        text.push_str(&format!("  {example}\n"));
    }
    text
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
        .filter_map(|Entry(usage, ..)| usage.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_names_the_nearest_and_lists_all() {
        let text = unknown("pretrian");
        assert!(text.contains("did you mean `pretrain`?"), "{text}");
        let all = "pretrain, eval, study, embed, export, publish, weights, plan, calibrate, sheet, bench, parity, \
                   interchange, kernels, test, fuzz, ci, tidy, help";
        assert!(text.contains(all), "{text}");
        assert!(!unknown("frobnicate").contains("did you mean"));
    }

    #[test]
    fn every_command_has_an_example_that_begins_with_it() {
        for (name, Entry(_, _, example)) in names().zip(COMMANDS) {
            assert!(
                example.starts_with(&format!("cargo xtask {name}")),
                "{example}"
            );
            assert!(text().contains(example));
        }
    }
}
