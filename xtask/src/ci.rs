//! `cargo xtask ci`: every check, the cheapest first.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::Cargo;
use crate::nearest::nearest;
use crate::summary::{End, shown, summary};
use crate::{cross, features, interchange, kernels, package, tidy, workspace};

/// One stage of the checks.
struct Stage {
    name: String,
    about: &'static str,
    work: Work,
}

enum Work {
    /// Our own rules, in this process.
    Tidy,
    /// What would be published, in this process.
    Package,
    /// The features of external crates, in this process.
    Features,
    /// Calls of cargo, one after another.
    Cargo(Vec<Cargo>),
    /// The round trips of weights, in this process.
    Interchange,
    /// The GPU kernels compiled, in this process.
    Kernels,
    /// What to say instead of running it.
    Skip(String),
}

/// How a stage ended.
enum Outcome {
    Passed,
    /// Why it did not run.
    Skipped(String),
    /// The command that repeats what failed.
    Failed(String),
}

/// Runs the stages named in `chosen`, or all; stops at the first that fails.
pub(crate) fn run(chosen: &[String]) -> Result<ExitCode> {
    let root = workspace::root()?;
    let stages = choose(stages(&root)?, chosen)?;
    let start = Instant::now();
    let mut times = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        say!(
            "\n==> [{}/{}] {}: {}",
            index + 1,
            stages.len(),
            stage.name,
            stage.about
        );
        let begun = Instant::now();
        let outcome = stage.run(&root)?;
        let took = begun.elapsed();
        match outcome {
            Outcome::Passed => {
                times.push((stage.name.as_str(), took, End::Passed));
                say!("    {} passed in {}", stage.name, shown(took));
            }
            Outcome::Skipped(reason) => {
                times.push((stage.name.as_str(), took, End::Skipped));
                say!("    SKIPPED: {reason}");
            }
            Outcome::Failed(repeat) => {
                times.push((stage.name.as_str(), took, End::Failed));
                say!("\n{}", summary(&times, start.elapsed()));
                say!("{} failed; to repeat it: {repeat}", stage.name);
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    say!("\n{}", summary(&times, start.elapsed()));
    Ok(ExitCode::SUCCESS)
}

impl Stage {
    fn cargo(name: &str, about: &'static str, calls: Vec<Cargo>) -> Self {
        Self {
            name: name.to_string(),
            about,
            work: Work::Cargo(calls),
        }
    }

    fn run(&self, root: &Path) -> Result<Outcome> {
        match &self.work {
            Work::Tidy => {
                let problems = tidy::check(root)?;
                for problem in &problems {
                    say!("{problem}");
                }
                Ok(match problems.is_empty() {
                    true => Outcome::Passed,
                    false => Outcome::Failed("cargo xtask tidy".to_string()),
                })
            }
            Work::Cargo(calls) => {
                for call in calls {
                    say!("    {call}");
                    if !call.run(root)?.success() {
                        return Ok(Outcome::Failed(call.to_string()));
                    }
                }
                Ok(Outcome::Passed)
            }
            Work::Package => Ok(outcome(package::check(root), "ci package")),
            Work::Features => Ok(outcome(features::check(root), "ci features")),
            Work::Interchange => Ok(outcome(interchange::round_trips(root), "interchange")),
            Work::Kernels => Ok(outcome(kernels::check(root), "kernels check")),
            Work::Skip(reason) => Ok(Outcome::Skipped(reason.clone())),
        }
    }
}

/// The outcome of a check that passes, says why it cannot be made, or fails; `command` repeats it.
fn outcome(result: Result<Option<String>>, command: &str) -> Outcome {
    match result {
        Ok(None) => Outcome::Passed,
        Ok(Some(reason)) => Outcome::Skipped(reason),
        Err(error) => {
            say!("{error:#}");
            Outcome::Failed(format!("cargo xtask {command}"))
        }
    }
}

/// All stages in order.
fn stages(root: &Path) -> Result<Vec<Stage>> {
    let lint = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    let mut stages = vec![
        Stage::cargo(
            "format",
            "rustfmt",
            vec![Cargo::new(["fmt", "--all", "--check"])],
        ),
        Stage {
            name: "tidy".to_string(),
            about: "the rules of docs/architecture.md",
            work: Work::Tidy,
        },
        Stage {
            name: "package".to_string(),
            about: "what would be published of each crate",
            work: Work::Package,
        },
        Stage {
            name: "features".to_string(),
            about: "a crate alone is tested with the external crates of the workspace",
            work: Work::Features,
        },
        Stage::cargo("clippy", "no warning in any target", vec![Cargo::new(lint)]),
        Stage::cargo(
            "test",
            "every test, as the README says",
            vec![Cargo::new(["xtask", "test"])],
        ),
        Stage::cargo(
            "doc",
            "documentation without warnings",
            vec![doc(&["--workspace"])],
        ),
        Stage {
            name: "interchange".to_string(),
            about: "weights go to timm, torchvision and transformers, and back",
            work: Work::Interchange,
        },
        Stage {
            name: "kernels".to_string(),
            about: "the GPU kernels compile for the GPUs in use",
            work: Work::Kernels,
        },
        Stage {
            name: "cross".to_string(),
            about: "the kernels compile for another architecture",
            work: cross::check().map_or_else(Work::Skip, |call| Work::Cargo(vec![call])),
        },
    ];
    for member in workspace::members(root)? {
        if !member.starts_with("crates") {
            continue;
        }
        let manifest = root.join(&member).join("Cargo.toml");
        let text =
            std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        let (name, features) =
            workspace::name_and_features(&text).with_context(|| manifest.display().to_string())?;
        let library = root.join(&member).join("src/lib.rs").is_file();
        let calls = alone(&name, &features, library);
        stages.push(Stage::cargo(
            &name,
            "builds, tests and documents alone",
            calls,
        ));
    }
    Ok(stages)
}

/// Examples in documentation compute little, so alone a crate and those below it are compiled for them without
/// optimisation. The profile of other packages is their own: those are there from the stage `test`.
const UNOPTIMISED: (&str, &str) = ("CARGO_PROFILE_DEV_OPT_LEVEL", "0");

/// What shows that a crate stands without the rest of the workspace.
///
/// In the workspace's own builds every crate gets the features that some other member asks for, and
/// its dependencies those that any test asks for. So the crate is compiled once with nothing but its
/// own dependencies, once per feature, and its tests and examples once with its own features; the
/// tests themselves have run in the stage `test`, and would do the same again.
fn alone(name: &str, features: &[String], library: bool) -> Vec<Cargo> {
    let mut calls = vec![Cargo::new(["check", "-p", name])];
    for feature in features {
        calls.push(Cargo::new([
            "check",
            "-p",
            name,
            "--no-default-features",
            "--features",
            feature,
        ]));
    }
    calls.push(Cargo::new(["check", "-p", name, "--all-targets"]));
    // Cargo refuses to look for doctests where there is no library.
    if library {
        calls.push(Cargo::new(["test", "-p", name, "--doc"]).env(UNOPTIMISED.0, UNOPTIMISED.1));
    }
    calls.push(doc(&["-p", name]));
    calls
}

fn doc(which: &[&str]) -> Cargo {
    let args: Vec<String> = which.iter().map(ToString::to_string).collect();
    Cargo::new(["doc", "--no-deps"])
        .args(&args)
        .env("RUSTDOCFLAGS", "-D warnings")
}

/// The stages with these names; all where there are none.
fn choose(stages: Vec<Stage>, names: &[String]) -> Result<Vec<Stage>> {
    for name in names {
        if !stages.iter().any(|stage| stage.name == *name) {
            let known: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
            let hint = nearest(name, known.iter().copied())
                .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            bail!(
                "no stage `{name}`{hint}; the stages are {}",
                known.join(", ")
            );
        }
    }
    let kept = |stage: &Stage| names.is_empty() || names.contains(&stage.name);
    Ok(stages.into_iter().filter(kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(stages: &[Stage]) -> Vec<&str> {
        stages.iter().map(|stage| stage.name.as_str()).collect()
    }

    #[test]
    fn the_stages_cover_the_workspace_and_each_crate_alone() {
        let stages = stages(&workspace::root().unwrap()).unwrap();
        let names = names(&stages);
        let first = [
            "format",
            "tidy",
            "package",
            "features",
            "clippy",
            "test",
            "doc",
            "interchange",
            "kernels",
            "cross",
        ];
        assert_eq!(names[..10], first);
        for name in ["fgvr-nn", "fgvr-gradcam", "fgvr-train", "fgvr-testkit"] {
            assert!(names.contains(&name), "{names:?}");
        }
    }

    #[test]
    fn a_crate_alone_is_checked_with_each_of_its_features() {
        let manifest = "[package]\nname = \"x\"\n[features]\ndefault = []\nserde = []\nhub = []\n";
        let (name, features) = workspace::name_and_features(manifest).unwrap();
        assert_eq!(alone(&name, &features, false).len(), 5);
        let calls: Vec<String> = alone(&name, &features, true)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            calls,
            [
                "cargo check -p x",
                "cargo check -p x --no-default-features --features hub",
                "cargo check -p x --no-default-features --features serde",
                "cargo check -p x --all-targets",
                "CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo test -p x --doc",
                "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps -p x",
            ]
        );
    }

    #[test]
    fn an_unknown_stage_is_an_error_that_names_the_nearest() {
        let stages = || {
            vec![
                Stage::cargo("clippy", "", vec![]),
                Stage::cargo("doc", "", vec![]),
            ]
        };
        assert_eq!(names(&choose(stages(), &["doc".into()]).unwrap()), ["doc"]);
        assert_eq!(choose(stages(), &[]).unwrap().len(), 2);
        let error = choose(stages(), &["clipy".into()])
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("did you mean `clippy`?"), "{error}");
    }
}
