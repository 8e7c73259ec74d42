//! `cargo xtask fuzz`: the fuzz targets in `fuzz/`, one after another.
//!
//! They are built by cargo-fuzz with AddressSanitizer and then run directly, each from its seeds and
//! from what earlier runs found worth keeping (`fuzz/corpus`, which git ignores). A target stops at
//! its first finding, which stays in `fuzz/artifacts`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::Cargo;
use crate::nearest::nearest;
use crate::output::print;
use crate::toolchain::Nightly;
use crate::workspace;

/// The targets, and the folders whose files they begin with besides their own seeds.
const TARGETS: &[(&str, &[&str])] = &[
    ("safetensors", &["tests/golden/weights"]),
    ("index", &[]),
    ("torch_zip", &["tests/golden/weights"]),
    ("torch_legacy", &["tests/golden/torch_legacy"]),
    ("pickle", &[]),
    ("config", &[]),
    ("reference", &[]),
    ("tar_index", &[]),
    ("mat", &["crates/fgvr-data/tests/golden/mat"]),
    ("set_index", &[]),
];

pub(crate) const USAGE: &str = "\
usage: cargo xtask fuzz [--minutes N] [TARGET]...

Runs the fuzz targets named, or all: safetensors, index, torch_zip, torch_legacy, pickle, config,
reference, tar_index, mat, set_index.
  --minutes N   for all of them together (6, or part of a minute: 0.5)

A finding is a panic, a hang of 10 s, or memory beyond ten times the input and 8 MiB. The input stays
in fuzz/artifacts/TARGET and is run again by
  cargo +nightly fuzz run --target-dir target/fuzz TARGET fuzz/artifacts/TARGET/FILE
What a run learns stays in fuzz/corpus. Needs a nightly toolchain and cargo-fuzz.
";

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Request {
    minutes: f64,
    targets: Vec<usize>,
}

/// How a target's run ended.
struct Outcome {
    target: &'static str,
    runs: Option<u64>,
    corpus: usize,
    seconds: f64,
    findings: usize,
    /// Whether the program itself said that all is well.
    passed: bool,
}

/// Builds the targets and runs them.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print(USAGE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = parse(args)?;
    let Some(nightly) = Nightly::installed() else {
        bail!(
            "fuzzing needs a nightly toolchain; install it with `rustup toolchain install nightly`"
        );
    };
    let root = workspace::root()?;
    let build = build();
    say!("{build}");
    let status = build.run(&root)?;
    if !status.success() {
        bail!(
            "the targets did not build; if cargo-fuzz is missing, install it with \
             `cargo install cargo-fuzz --locked`"
        );
    }
    let programs = root.join("target/fuzz").join(&nightly.host).join("release");
    let seconds = request.minutes * 60. / request.targets.len() as f64;
    let mut outcomes = Vec::new();
    for index in request.targets {
        let (target, seeds) = TARGETS[index];
        say!("{target}: {seconds:.0} s");
        outcomes.push(fuzz(&root, &programs.join(target), target, seeds, seconds)?);
    }
    print(&table(&outcomes))?;
    let clean = outcomes
        .iter()
        .all(|outcome| outcome.passed && outcome.findings == 0);
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn build() -> Cargo {
    Cargo::new([
        "fuzz",
        "build",
        "--fuzz-dir",
        "fuzz",
        "--target-dir",
        "target/fuzz",
    ])
    .nightly()
}

fn parse(args: &[String]) -> Result<Request> {
    let mut request = Request {
        minutes: TARGETS.len() as f64,
        targets: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--minutes" {
            let value = args.next().context("--minutes needs a number")?;
            request.minutes = value
                .parse()
                .ok()
                .filter(|minutes| (0.01..=100_000.).contains(minutes))
                .with_context(|| format!("--minutes {value}: expected a number above 0"))?;
            continue;
        }
        let names = || TARGETS.iter().map(|(name, _)| *name);
        match names().position(|name| name == arg) {
            Some(index) => request.targets.push(index),
            None => {
                let hint = nearest(arg, names())
                    .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                bail!("no fuzz target `{arg}`{hint}");
            }
        }
    }
    if request.targets.is_empty() {
        request.targets = (0..TARGETS.len()).collect();
    }
    Ok(request)
}

/// Runs one target for `seconds`; what it says goes to a file.
fn fuzz(
    root: &Path,
    program: &Path,
    target: &'static str,
    seeds: &[&str],
    seconds: f64,
) -> Result<Outcome> {
    let folder = |kind: &str| -> Result<PathBuf> {
        let folder = root.join("fuzz").join(kind).join(target);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    };
    let (corpus, artifacts) = (folder("corpus")?, folder("artifacts")?);
    let before = files(&artifacts)?;
    let log = root.join("target/fuzz").join(format!("{target}.log"));
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    let mut command = Command::new(program);
    command
        .current_dir(root)
        .arg(&corpus)
        .arg(root.join("fuzz/seeds").join(target))
        .args(seeds.iter().map(|seeds| root.join(seeds)))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-dict={}", root.join("fuzz/words.dict").display()))
        .arg(format!("-max_total_time={}", seconds.ceil().max(1.)))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=512"])
        .args(["-max_len=40000", "-print_final_stats=1"])
        .stderr(output);
    let begun = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&fs::read(&log).with_context(|| log.display().to_string())?)
        .into_owned();
    let passed = status.success();
    if !passed {
        say!("{target} stopped with {status}; see {}", log.display());
    }
    Ok(Outcome {
        target,
        runs: runs(&said),
        corpus: files(&corpus)?,
        seconds: begun.elapsed().as_secs_f64(),
        findings: files(&artifacts)?.saturating_sub(before),
        passed,
    })
}

/// The number of files in `folder`.
fn files(folder: &Path) -> Result<usize> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    Ok(entries.count())
}

/// How many inputs libFuzzer says it ran.
fn runs(said: &str) -> Option<u64> {
    said.lines().find_map(|line| {
        let count = line.strip_prefix("stat::number_of_executed_units:")?;
        count.trim().parse().ok()
    })
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<12} {:>12} {:>8} {:>8} {:>9}\n",
        "target", "runs", "corpus", "seconds", "findings"
    );
    for outcome in outcomes {
        let Outcome {
            target,
            runs,
            corpus,
            seconds,
            findings,
            passed,
        } = outcome;
        let runs = runs.map_or("unknown".to_string(), |runs| runs.to_string());
        let note = if *passed { "" } else { "  stopped" };
        text.push_str(&format!(
            "{target:<12} {runs:>12} {corpus:>8} {seconds:>8.0} {findings:>9}{note}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(args: &[&str]) -> Result<Request> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        parse(&args)
    }

    #[test]
    fn all_targets_run_unless_some_are_named() {
        let all = request(&["--minutes", "60"]).unwrap();
        assert_eq!((all.minutes, all.targets.len()), (60., TARGETS.len()));
        let one = request(&["pickle"]).unwrap();
        assert_eq!(one.targets, [4]);
        let error = request(&["pickel"]).unwrap_err().to_string();
        assert!(error.contains("did you mean `pickle`?"), "{error}");
        for minutes in ["0", "-1", "x", "inf", "nan"] {
            assert!(request(&["--minutes", minutes]).is_err(), "{minutes}");
        }
        assert!(request(&["--minutes"]).is_err());
    }

    #[test]
    fn the_help_and_the_manifest_name_every_target() {
        let manifest = workspace::root().unwrap().join("fuzz/Cargo.toml");
        let manifest = fs::read_to_string(manifest).unwrap();
        for (target, _) in TARGETS {
            assert!(USAGE.contains(target));
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }

    #[test]
    fn runs_are_read_from_the_final_statistics() {
        let said = "Done 12 runs in 1 second(s)\nstat::number_of_executed_units: 12\nstat::x: 3\n";
        assert_eq!(runs(said), Some(12));
        assert_eq!(runs("killed"), None);
    }

    #[test]
    fn the_table_marks_a_target_that_stopped() {
        let outcome = |target, passed: bool, findings| Outcome {
            target,
            runs: passed.then_some(1234),
            corpus: 56,
            seconds: 120.2,
            findings,
            passed,
        };
        assert_eq!(
            table(&[outcome("index", true, 0), outcome("pickle", false, 1)]),
            "target               runs   corpus  seconds  findings\n\
             index                1234       56      120         0\n\
             pickle            unknown       56      120         1  stopped\n"
        );
    }
}
