//! What `cargo xtask kernels` runs.

mod bench;
mod check;
mod list;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// A file that cannot be read, a target that is none, no GPU to time on.
const BAD_INPUT: u8 = 2;
/// NVRTC is not here: nothing was checked.
const NO_COMPILER: u8 = 3;

/// The GPU kernels: what there is, whether it compiles, and how fast it is.
#[derive(Parser)]
#[command(name = "kernels", after_help = EXAMPLES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask kernels list norm
  cargo xtask kernels check
  cargo xtask kernels check --target sm_120 my.cu
  cargo xtask kernels test
  cargo xtask kernels bench --only norm";

#[derive(Subcommand)]
enum Command {
    /// Name the kernels, with their files and what each does.
    List(list::Arguments),
    /// Compile every kernel for the GPUs in use; no GPU is needed, only NVRTC's library.
    Check(check::Arguments),
    /// Time operations at the shapes of training on a GPU, beside what the GPU can do.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // The help, or what is wrong with the command line.
        Err(message) => {
            let code = u8::try_from(message.exit_code()).unwrap_or(BAD_INPUT);
            let printed = message.print().and_then(|()| std::io::stdout().flush());
            return match unless_gone(printed) {
                Err(error) if !message.use_stderr() => failed(&error),
                _ => ExitCode::from(code),
            };
        }
    };
    let result = match arguments.command {
        Command::List(arguments) => list::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    result.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    complain(&format!("error: {error:#}"));
    let missing = error
        .downcast_ref()
        .is_some_and(|error| matches!(error, fgvr_cuda::Error::NoNvrtc { .. }));
    ExitCode::from(if missing { NO_COMPILER } else { BAD_INPUT })
}

/// Prints a line of results; a reader that has seen enough is no error.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    unless_gone(writeln!(out, "{line}").and_then(|()| out.flush()))
}

fn unless_gone(written: std::io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written to")
        }
        _ => Ok(()),
    }
}

/// A line for whoever looks on, on standard error; where nobody does, the work goes on.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
