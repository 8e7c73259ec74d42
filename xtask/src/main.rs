//! Builds, checks and runs fgvr: `cargo xtask help` lists what it can do.

#[macro_use]
mod output;

mod bench;
mod ci;
mod command;
mod cross;
mod features;
mod fuzz;
mod gpu;
mod help;
mod interchange;
mod kernels;
mod nearest;
mod package;
mod page;
mod parity;
mod program;
mod progress;
mod python;
mod sanitize;
mod scratch;
mod server;
mod summary;
mod table;
mod test;
mod tidy;
mod toolchain;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

/// A command line that names no command.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let result = match args.split_first() {
        Some((name, args)) => run(&name.to_string_lossy(), args),
        None => {
            output::show(&help::text());
            Ok(ExitCode::from(BAD_INPUT))
        }
    };
    result.unwrap_or_else(|error| {
        say!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(name: &str, args: &[OsString]) -> Result<ExitCode> {
    match name {
        name if help::is_of_fgvr(name) => program::run(name, args),
        "sheet" => program::sheet(args),
        "bench" => bench::run(&text(args)?),
        "parity" => parity::run(&text(args)?),
        "interchange" => interchange::run(&text(args)?),
        "kernels" => kernels::run(args),
        "test" => test::run(&text(args)?),
        "fuzz" => fuzz::run(&text(args)?),
        "ci" => ci::run(&text(args)?),
        "tidy" => tidy::run(&text(args)?),
        "help" | "--help" | "-h" => {
            output::print(&help::text())?;
            Ok(ExitCode::SUCCESS)
        }
        unknown => {
            output::show(&help::unknown(unknown));
            Ok(ExitCode::from(BAD_INPUT))
        }
    }
}

/// The arguments of a command whose arguments are words.
fn text(args: &[OsString]) -> Result<Vec<String>> {
    let word = |arg: &OsString| {
        let word = arg.to_str().map(String::from);
        word.with_context(|| format!("{}: an argument that is not UTF-8", arg.display()))
    };
    args.iter().map(word).collect()
}
