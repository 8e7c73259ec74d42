//! `kernels bench`.

mod emulate;
#[cfg(feature = "cuda")]
mod measure;
mod outcome;
mod table;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use fgvr_cuda::bench::{Case, Scale, cases};

/// What to time, and how often.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// Only cases whose name contains this.
    #[arg(
        long,
        value_name = "PART",
        default_value = "",
        hide_default_value = true
    )]
    only: String,
    /// Turns of some 20 ms that each case takes, 10 or more.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(10..))]
    rounds: u32,
    /// The GPU's number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: usize,
    /// Products and convolutions of f32 with factors of 10 bits (TF32).
    #[arg(long)]
    tf32: bool,
    /// An object instead of a table.
    #[arg(long)]
    json: bool,
    /// Run each case once, shrunk, on the emulator: shows that all launch and says nothing of speed.
    #[arg(long, conflicts_with_all = ["rounds", "gpu", "tf32", "json"])]
    emulate: bool,
}

const HELP: &str = "\
Each case is an operation at a shape of real training. A time is the median over rounds of the GPU's
own clock for one call, with its quartiles. GB/s count each operand once, TFLOP/s each operation once.
The ceilings are measured in the same rounds: the fastest of a copy, a cast and an addition for
memory, products of 8192 x 8192 matrices for arithmetic (that of f32 also for what is no product).
The share is that of the nearer ceiling, named beside it.
What is marked `cache` is small enough to stay in the GPU's cache and may pass the memory's ceiling;
what is marked `host` takes no longer than the host needs to start it.

Without a GPU this ends with code 2; where a case fails, with code 1 after the others.

Examples:
  cargo xtask kernels bench
  cargo xtask kernels bench --only conv --rounds 30
  cargo xtask kernels bench --tf32 --json > bench.json
  cargo xtask kernels bench --emulate";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.emulate {
        return emulate::run(&chosen(Scale::Small, &arguments.only)?);
    }
    let cases = chosen(Scale::Training, &arguments.only)?;
    time(arguments, cases)
}

/// The cases whose name contains `part`.
fn chosen(scale: Scale, part: &str) -> Result<Vec<Case>> {
    let all = cases(scale);
    let group = |case: &Case| case.work.name.split(':').next().map(str::to_owned);
    let groups: BTreeSet<String> = all.iter().filter_map(group).collect();
    let mut found = all;
    found.retain(|case| case.work.name.contains(part));
    if found.is_empty() {
        let groups: Vec<String> = groups.into_iter().collect();
        let groups = groups.join(", ");
        bail!("no case has `{part}` in its name; the groups are {groups}, and --emulate names all");
    }
    Ok(found)
}

#[cfg(feature = "cuda")]
fn time(arguments: &Arguments, cases: Vec<Case>) -> Result<ExitCode> {
    use fgvr_cuda::Error;

    let outcome = match measure::run(arguments, cases) {
        Ok(outcome) => outcome,
        Err(error) => match error.downcast_ref() {
            Some(Error::NoGpu(why)) => bail!(
                "no GPU: {why}; run this on a machine with an NVIDIA GPU, or see that every case launches with `cargo xtask kernels bench --emulate`"
            ),
            _ => return Err(error),
        },
    };
    crate::say(&match arguments.json {
        true => serde_json::to_string_pretty(&outcome.json())?,
        false => table::text(&outcome),
    })?;
    let failed = outcome.rows.iter().any(|row| row.result.is_err());
    Ok(ExitCode::from(u8::from(failed)))
}

#[cfg(not(feature = "cuda"))]
fn time(_: &Arguments, _: Vec<Case>) -> Result<ExitCode> {
    bail!(
        "built without the feature `cuda`, which times on a GPU; `cargo xtask kernels bench` builds with it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_chooses_cases_and_one_that_fits_none_is_an_error_that_names_the_groups() {
        let chosen = |part| chosen(Scale::Small, part);
        let names = chosen("attention").unwrap();
        let names: Vec<&str> = names.iter().map(|case| case.work.name.as_str()).collect();
        assert_eq!(names, ["vit: attention", "vit: attention, grad"]);
        let error = chosen("covn").err().unwrap().to_string();
        assert!(
            error.contains("`covn`") && error.contains("conv, layout, loss"),
            "{error}"
        );
    }
}
