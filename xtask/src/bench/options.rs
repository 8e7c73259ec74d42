//! The arguments of `cargo xtask bench`.

use anyhow::{Context, Result, bail};

use super::case::Group;
use crate::nearest::nearest;

pub(super) const USAGE: &str = "\
usage: cargo xtask bench [micro|train|embed|memory|gradients|all]… [options]

  --against torch   measure PyTorch's modes too, in turns with ours
  --case NAME       only the cases whose names begin so; may be given more than once
  --threads N       threads of either side (2)
  --rounds N        turns of each side (4)
  --quick           one short turn of each side: shows that all works, not how fast it is
  --json            the figures as JSON on standard output
  --write           put the tables into docs/benchmarks.md; also done where everything is measured
                    against torch, without --quick or --case
  --no-write        do not

train: a training step. embed: images to features. memory: peak memory and page faults of training.
micro: each convolution by itself, beside the peak of the machine. Without a group: train, embed, memory.

gradients: those of a whole step beside PyTorch's in f64, with --against torch; a tensor whose error is
above 1e-4 makes the command fail. FGVR_SIMD=portable|avx2|avx512 takes the kernels of that level, here
and in all other groups.

PyTorch runs from a virtual environment that is made in target/venv at the first use (some
gigabytes; PIP_EXTRA_INDEX_URL can name an index with the smaller CPU builds). FGVR_PYTHON names
an interpreter that has torch and torchvision to use instead.
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) groups: Vec<Group>,
    pub(super) torch: bool,
    pub(super) cases: Vec<String>,
    pub(super) threads: usize,
    pub(super) rounds: usize,
    pub(super) quick: bool,
    pub(super) json: bool,
    pub(super) write: bool,
}

impl Options {
    pub(super) fn parse(args: &[String]) -> Result<Self> {
        let mut groups = Vec::new();
        let (mut torch, mut quick, mut json, mut write) = (false, false, false, None);
        let mut all = false;
        let (mut cases, mut threads, mut rounds) = (Vec::new(), 2, None);
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            let (name, attached) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (arg, None),
            };
            let mut value = || {
                let value = attached.or_else(|| args.next());
                value.with_context(|| format!("{name} needs a value\n\n{USAGE}"))
            };
            match name {
                "--against" => match value()? {
                    "torch" => torch = true,
                    other => bail!("--against {other}: there is only torch"),
                },
                "--case" => cases.push(value()?.to_string()),
                "--threads" => threads = count(name, value()?)?,
                "--rounds" => rounds = Some(count(name, value()?)?),
                "--quick" => quick = true,
                "--json" => json = true,
                "--write" => write = Some(true),
                "--no-write" => write = Some(false),
                "all" => all = true,
                _ => groups.push(group(name)?),
            }
        }
        if groups.contains(&Group::Gradients) && !torch {
            bail!("gradients are compared with PyTorch's: add --against torch");
        }
        if all {
            let measurable = |group: &Group| torch || *group != Group::Gradients;
            groups.extend(Group::ALL.into_iter().filter(measurable));
        } else if groups.is_empty() {
            groups = vec![Group::Train, Group::Embed, Group::Memory];
        }
        groups.sort_unstable();
        groups.dedup();
        let whole = groups.len() == Group::ALL.len() && torch && !quick && cases.is_empty();
        Ok(Self {
            groups,
            torch,
            cases,
            threads,
            rounds: rounds.unwrap_or(if quick { 1 } else { 4 }),
            quick,
            json,
            write: write.unwrap_or(whole),
        })
    }

    /// The command that repeats the measurement of `group`.
    pub(super) fn command(&self, group: Group) -> String {
        let mut text = format!("cargo xtask bench {}", group.name());
        if self.torch {
            text.push_str(" --against torch");
        }
        text.push_str(&format!(" --threads {}", self.threads));
        if !matches!(group, Group::Memory | Group::Gradients) {
            text.push_str(&format!(" --rounds {}", self.rounds));
        }
        for case in &self.cases {
            text.push_str(&format!(" --case {case}"));
        }
        if self.quick {
            text.push_str(" --quick");
        }
        text
    }
}

fn count(name: &str, value: &str) -> Result<usize> {
    let count = value.parse().ok().filter(|count| *count > 0);
    count.with_context(|| format!("{name} {value}: expected a number of at least 1"))
}

fn group(name: &str) -> Result<Group> {
    if let Some(group) = Group::ALL.into_iter().find(|group| group.name() == name) {
        return Ok(group);
    }
    let known = [
        "micro",
        "train",
        "embed",
        "memory",
        "gradients",
        "all",
        "--against",
        "--case",
        "--threads",
        "--rounds",
        "--quick",
        "--json",
        "--write",
        "--no-write",
    ];
    let hint =
        nearest(name, known).map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
    bail!("bench: `{name}` is no group and no option{hint}\n\n{USAGE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Options> {
        let args: Vec<String> = args.split_whitespace().map(String::from).collect();
        Options::parse(&args)
    }

    #[test]
    fn arguments_are_read_in_any_order() {
        let options = parse("--case=a embed --against torch train --case b --threads 3").unwrap();
        assert_eq!(options.groups, [Group::Train, Group::Embed]);
        assert_eq!(options.cases, ["a", "b"]);
        assert_eq!((options.threads, options.rounds), (3, 4));
        assert!(options.torch && !options.write);
        assert_eq!(
            options.command(Group::Train),
            "cargo xtask bench train --against torch --threads 3 --rounds 4 --case a --case b"
        );
    }

    #[test]
    fn the_page_is_written_when_all_is_measured_or_when_told() {
        for (args, write) in [
            ("all --against torch", true),
            ("all", false),
            ("all --against torch --quick", false),
            ("all --against torch --case x", false),
            ("all --against torch --no-write", false),
            ("train --write", true),
        ] {
            assert_eq!(parse(args).unwrap().write, write, "{args}");
        }
    }

    #[test]
    fn gradients_are_among_all_where_pytorch_is() {
        let groups = |args| parse(args).unwrap().groups;
        assert_eq!(groups("all --against torch"), Group::ALL);
        assert_eq!(groups("all"), Group::ALL[..4]);
        let options = parse("gradients --against torch").unwrap();
        assert_eq!(options.groups, [Group::Gradients]);
        assert_eq!(
            options.command(Group::Gradients),
            "cargo xtask bench gradients --against torch --threads 2"
        );
    }

    #[test]
    fn wrong_arguments_say_what_is_right() {
        for (args, says) in [
            ("trian", "did you mean `train`?"),
            ("--against jax", "only torch"),
            ("--threads 0", "at least 1"),
            ("--rounds", "needs a value"),
            ("--quik", "did you mean `--quick`?"),
            ("gradients", "add --against torch"),
        ] {
            let error = parse(args).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
