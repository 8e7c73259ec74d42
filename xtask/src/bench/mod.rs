//! `cargo xtask bench`: how fast we are, and how fast PyTorch is on the same machine.
//!
//! Both sides are programs that prepare a case and then repeat it when told to. They take turns, so
//! that a machine that slows down slows both; only one of them computes at any moment. PyTorch runs in
//! several modes; on the CPU the best of them is what we are compared with, on a GPU each. `gradients` is the one
//! group that is not timed.

mod case;
mod effort;
mod gradients;
mod machine;
mod measure;
mod options;
mod outcome;
mod programs;
mod report;
mod statistics;
mod target;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::case::{Case, Group};
use self::effort::Effort;
use self::gradients::Comparison;
use self::machine::Machine;
use self::options::Options;
pub(crate) use self::options::USAGE;
use self::outcome::Outcome;
pub(crate) use self::programs::{Programs, build};
use self::report::Part;
pub(crate) use self::target::Target;
use crate::output::print;
use crate::progress::Progress;
use crate::{gpu, page, python, workspace};

/// The page that `--write` fills.
const PAGE: &str = "docs/benchmarks.md";

/// Measures what `args` ask for.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print(USAGE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(args)?;
    if options.target.is_gpu() && !gpu::driver() {
        bail!(
            "--device {}: nvidia-smi finds no GPU on this machine; --device emulator shows that all works",
            options.target.device
        );
    }
    let root = workspace::root()?;
    let python = match options.torch {
        true => Some(python::interpreter(&root)?),
        false => None,
    };
    let programs = Programs {
        ours: build(&root, options.target)?,
        root,
        python,
        threads: options.threads,
        target: options.target,
    };
    let (machine, cases) = prepare(&programs, &options)?;
    let found = measure(&programs, &options, &cases)?;
    if options.json {
        let mut cases = outcome::json(&found.timed);
        cases.extend(gradients::json(&found.compared));
        print(&format!("{:#}\n", Value::Object(cases)))?;
    } else {
        print(&text(&machine, &options, &found))?;
    }
    if options.write {
        let sections: Vec<(String, String)> = options
            .groups
            .iter()
            .filter(|group| cases.iter().any(|case| case.group == **group))
            .map(|group| {
                let name = options.target.section(*group);
                (name, section(&machine, &options, *group, &found))
            })
            .collect();
        let sections: Vec<(&str, String)> = sections
            .iter()
            .map(|(name, text)| (name.as_str(), text.clone()))
            .collect();
        page::write(&programs.root, PAGE, &sections)?;
        say!("bench: wrote {PAGE}");
    }
    if found.compared.iter().all(Comparison::right) {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// What was measured.
struct Found {
    timed: Vec<Outcome>,
    compared: Vec<Comparison>,
}

impl Found {
    /// The tables of a group, and lines of what went wrong.
    fn of(&self, group: Group) -> (Vec<Part>, Vec<String>) {
        if group != Group::Gradients {
            return (
                report::parts(group, &self.timed),
                report::failures(group, &self.timed),
            );
        }
        let mut parts = Vec::new();
        if !self.compared.is_empty() {
            parts.push(Part {
                title: "Gradients of a step, errors against f64",
                table: gradients::table(&self.compared),
            });
        }
        (parts, gradients::failures(&self.compared))
    }
}

/// Asks both sides what they are, and ours which convolutions there are.
fn prepare(programs: &Programs, options: &Options) -> Result<(Machine, Vec<Case>)> {
    let mut ours = programs.start_ours()?;
    let mut machine = Machine::new(&ours.hello);
    let mut cases = case::catalogue(&options.groups, options.target);
    if options.groups.contains(&Group::Judge) {
        machine.peak(&ours.ask("peak")?);
    }
    if options.groups.contains(&Group::Micro) {
        let list = ours.ask("list")?;
        let names = list["cases"]
            .as_array()
            .context("no list of convolutions")?;
        let names: Vec<String> = names
            .iter()
            .filter_map(|name| name.as_str().map(String::from))
            .collect();
        cases.extend(case::micro(&names));
        machine.peak(&ours.ask("peak")?);
    }
    let ours_device = ours.hello["device"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    drop(ours);
    if options.target.is_gpu() {
        machine.driver(gpu::driver_version());
    }
    let cases = case::choose(cases, &options.cases, &options.groups, options.target)?;
    if programs.python.is_some() {
        let first = Group::Micro.modes(options.target).first();
        let first = first.context("no mode")?;
        let torch = programs
            .start_torch(Group::Micro, first)
            .context("PyTorch does not start; FGVR_PYTHON can name another interpreter")?;
        machine.torch(&torch.hello);
        same_gpu(&ours_device, &torch.hello)?;
        python::warn_of_other_versions(
            &programs.root,
            &[
                ("torch", torch.hello["version"].as_str()),
                ("torchvision", torch.hello["torchvision"].as_str()),
            ],
        )?;
    }
    Ok((machine, cases))
}

/// That PyTorch runs on the GPU that our program calls `ours`.
fn same_gpu(ours: &str, torch: &Value) -> Result<()> {
    match torch["device"].as_str() {
        Some(theirs) if theirs != "cpu" && !ours.starts_with(theirs) => {
            bail!(
                "fgvr runs on {ours} and PyTorch on {theirs}; CUDA_VISIBLE_DEVICES can leave one GPU to both"
            )
        }
        _ => Ok(()),
    }
}

fn measure(programs: &Programs, options: &Options, cases: &[Case]) -> Result<Found> {
    let effort = Effort {
        rounds: options.rounds,
        quick: options.quick,
        device: options.target.is_device(),
    };
    let modes = |case: &Case| match options.torch {
        true => case.modes(options.target).len(),
        false => 0,
    };
    let units = cases
        .iter()
        .map(|case| effort.units(case.group, modes(case)));
    let mut progress = Progress::new(units.sum());
    let (mut timed, mut compared) = (Vec::new(), Vec::new());
    let failed = |case: &Case| format!("{} failed", case.name());
    // The convolutions are many and small: one process of each side does them all.
    let mut kept = None;
    for case in cases {
        let outcome = match case.group {
            Group::Memory => measure::memory(case, programs, &mut progress),
            Group::Micro => {
                if kept.is_none() {
                    let torch = measure::torch_sides(programs, case);
                    kept = Some((programs.start_ours()?, torch));
                }
                let Some((ours, torch)) = &mut kept else {
                    bail!("no process for the convolutions");
                };
                measure::timed(case, ours, torch, effort, &mut progress)
            }
            Group::Train | Group::Embed | Group::Judge => {
                let mut ours = programs.start_ours()?;
                let mut torch = measure::torch_sides(programs, case);
                measure::timed(case, &mut ours, &mut torch, effort, &mut progress)
            }
            Group::Gradients => {
                let comparison = gradients::compare(case, programs, &mut progress);
                compared.push(comparison.with_context(|| failed(case))?);
                continue;
            }
        };
        timed.push(outcome.with_context(|| format!("{} on our side", failed(case)))?);
    }
    progress.end();
    Ok(Found { timed, compared })
}

/// For the terminal.
fn text(machine: &Machine, options: &Options, found: &Found) -> String {
    let mut text = format!("{}\n", machine.text());
    for group in &options.groups {
        let (parts, failures) = found.of(*group);
        for part in parts {
            text.push_str(&format!("\n{}\n{}", part.title, part.table.text()));
        }
        for failure in failures {
            text.push_str(&format!("{failure}\n"));
        }
    }
    text
}

/// For the page.
fn section(machine: &Machine, options: &Options, group: Group, found: &Found) -> String {
    let mut text = format!("{}\n\n`{}`\n", machine.text(), options.command(group));
    let (parts, failures) = found.of(group);
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            text.push_str(&format!("\n{}:\n", part.title));
        }
        text.push_str(&format!("\n{}", part.table.markdown()));
    }
    for failure in failures {
        text.push_str(&format!("\n- {failure}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_markers_for_every_group() {
        let page = workspace::root().unwrap().join(PAGE);
        let page = std::fs::read_to_string(page).unwrap();
        let gpu = Target::parse(Some("cuda"), None).unwrap();
        for target in [Target::CPU, gpu] {
            for group in target.groups() {
                page::replaced(&page, &target.section(*group), "x").unwrap();
            }
        }
    }

    #[test]
    fn both_programs_must_run_on_the_same_gpu() {
        let torch = |device: &str| serde_json::json!({ "device": device });
        let ours = "NVIDIA H200 (sm_90a), bf16";
        assert!(same_gpu(ours, &torch("NVIDIA H200")).is_ok());
        assert!(same_gpu("cpu", &torch("cpu")).is_ok());
        let error = same_gpu(ours, &torch("NVIDIA L4")).unwrap_err().to_string();
        assert!(error.contains("PyTorch on NVIDIA L4"), "{error}");
    }
}
