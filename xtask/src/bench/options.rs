//! The arguments of `cargo xtask bench`.

use anyhow::{Context, Result, bail};

use super::case::Group;
use super::target::Target;
use crate::nearest::nearest;

pub(crate) const USAGE: &str = "\
usage: cargo xtask bench [micro|train|embed|memory|judge|gradients|all]… [options]

  --against torch   measure PyTorch's modes too, in turns with ours
  --case NAME       only the cases whose names begin so; may be given more than once. A whole name with its
                    group, such as train/moco-resnet18-32-b4, need not be in the list
  --device D        cpu (default), cuda, cuda:N, or emulator, which shows that all works where there is no GPU
  --precision P     on a device: f32, tf32 or bf16 (default)
  --threads N       threads of either side (2; all of the machine's with a device)
  --rounds N        turns of each side (4)
  --quick           one short turn of each side: shows that all works, not how fast it is
  --json            the figures as JSON on standard output
  --write           put the tables into docs/benchmarks.md; also done where everything is measured
                    against torch, without --quick or --case (but for the emulator)
  --no-write        do not

train: a training step. embed: images to features. memory: peak memory and page faults of training.
micro: each convolution by itself, beside the peak of the machine. judge: nearest neighbours, kNN and probe beside
FAISS, PyTorch and scikit-learn. Without a group: train, embed, memory.

On a device, train, embed and memory have cases of their own, MoCo v2 and SynthPair at 224 px, and PyTorch two
modes, eager and compiled, channels-last with autocast; each is compared by itself.

gradients: those of a whole step beside PyTorch's in f64, with --against torch; a tensor whose error is
above 1e-4 makes the command fail. FGVR_SIMD=portable|avx2|avx512 takes the kernels of that level, here
and in all other groups.

PyTorch runs from a virtual environment that is made in target/venv at the first use (some
gigabytes; PIP_EXTRA_INDEX_URL can name an index with the smaller CPU builds). FGVR_PYTHON names
an interpreter that has torch and torchvision to use instead. judge needs what benches/torch/judging.txt
names besides; install it there with pip.
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    pub(super) groups: Vec<Group>,
    pub(super) target: Target,
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
        let (mut cases, mut threads, mut rounds) = (Vec::new(), None, None);
        let (mut device, mut precision) = (None, None);
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
                "--device" => device = Some(value()?),
                "--precision" => precision = Some(value()?),
                "--threads" => threads = Some(count(name, value()?)?),
                "--rounds" => rounds = Some(count(name, value()?)?),
                "--quick" => quick = true,
                "--json" => json = true,
                "--write" => write = Some(true),
                "--no-write" => write = Some(false),
                "all" => all = true,
                _ => groups.push(group(name)?),
            }
        }
        let target = Target::parse(device, precision)?;
        let (on_device, there) = (target.is_device(), target.groups());
        if let Some(group) = groups.iter().find(|group| !there.contains(group)) {
            bail!(
                "{} is measured on the CPU alone; --device {} has train, embed and memory",
                group.name(),
                target.device
            );
        }
        if groups.contains(&Group::Gradients) && !torch {
            bail!("gradients are compared with PyTorch's: add --against torch");
        }
        if all {
            let measurable = |group: &Group| torch || *group != Group::Gradients;
            groups.extend(there.iter().copied().filter(measurable));
        } else if groups.is_empty() {
            groups = vec![Group::Train, Group::Embed, Group::Memory];
        }
        groups.sort_unstable();
        groups.dedup();
        let real = !on_device || target.is_gpu();
        if write == Some(true) && !real {
            bail!("--write: what an emulator takes is no figure for the page");
        }
        let whole = groups.len() == there.len() && torch && !quick && cases.is_empty();
        Ok(Self {
            groups,
            target,
            torch,
            cases,
            threads: threads.unwrap_or_else(|| if on_device { cores() } else { 2 }),
            rounds: rounds.unwrap_or(if quick { 1 } else { 4 }),
            quick,
            json,
            write: write.unwrap_or(whole && real),
        })
    }

    /// The command that repeats the measurement of `group`.
    pub(super) fn command(&self, group: Group) -> String {
        let mut text = format!("cargo xtask bench {}", group.name());
        text.push_str(&self.target.options());
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

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
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
        "--device",
        "--precision",
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
    fn a_device_has_groups_threads_and_a_page_of_its_own() {
        let options = parse("all --device cuda --against torch").unwrap();
        let groups = [Group::Train, Group::Embed, Group::Memory];
        assert_eq!(options.groups, groups);
        assert!(options.write);
        assert_eq!(options.threads, cores());
        let options = parse("train --device=cuda:0 --precision tf32 --threads 8 --write").unwrap();
        assert_eq!(
            options.command(Group::Train),
            "cargo xtask bench train --device cuda --precision tf32 --threads 8 --rounds 4"
        );
        assert!(
            !parse("all --device emulator --against torch")
                .unwrap()
                .write
        );
        assert!(!parse("embed --device cuda --against torch").unwrap().write);
    }

    #[test]
    fn gradients_are_among_all_where_pytorch_is() {
        let groups = |args| parse(args).unwrap().groups;
        assert_eq!(groups("all --against torch"), Group::ALL);
        assert_eq!(groups("all"), Group::ALL[..5]);
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
            ("--device gpu", "expected cpu, cuda, cuda:N or emulator"),
            ("--precision bf16", "the CPU computes in f32 alone"),
            ("micro --device cuda", "on the CPU alone"),
            (
                "gradients --device cuda --against torch",
                "on the CPU alone",
            ),
            ("train --device emulator --write", "no figure for the page"),
            ("--devise cuda", "did you mean `--device`?"),
        ] {
            let error = parse(args).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
