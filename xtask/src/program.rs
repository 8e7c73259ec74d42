//! `cargo xtask pretrain`, `eval`, `embed` and the other commands of the program `fgvr`, built
//! for release, with CUDA where there is a GPU; and `cargo xtask sheet`, an example of `fgvr-data`.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::command::{become_it, executable};
use crate::{gpu, workspace};

/// Becomes `fgvr <subcommand> <args>` in the current folder, so that relative paths, signals and
/// exit codes are those of the program itself.
pub(crate) fn run(subcommand: &str, args: &[OsString]) -> Result<ExitCode> {
    let features: &[&str] = match gpu::driver() {
        true => &["--features", "cuda"],
        false => &[],
    };
    let which = ["--release", "-p", "fgvr"];
    let program = executable(&workspace::root()?, &[&which, features].concat(), "fgvr")?;
    let mut command = Command::new(program);
    command.arg(subcommand).args(args);
    become_it(command)
}

/// Becomes the example that draws a contact sheet.
pub(crate) fn sheet(args: &[OsString]) -> Result<ExitCode> {
    let which = ["--release", "-p", "fgvr-data", "--example", "contact_sheet"];
    let program = executable(&workspace::root()?, &which, "contact_sheet")?;
    let mut command = Command::new(program);
    command.args(args);
    become_it(command)
}
