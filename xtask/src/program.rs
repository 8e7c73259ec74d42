//! `cargo xtask pretrain`, `eval`, `embed` and the other commands of the program `fgvr`, built
//! for release, with CUDA where there is a GPU; and `cargo xtask sheet`, an example of `fgvr-data`.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::command::Cargo;
use crate::{gpu, workspace};

/// Becomes `fgvr <subcommand> <args>` in the current folder, so that relative paths, signals and
/// exit codes are those of the program itself.
pub(crate) fn run(subcommand: &str, args: &[String]) -> Result<ExitCode> {
    let features: &[&str] = match gpu::driver() {
        true => &["--features", "cuda"],
        false => &[],
    };
    let which = ["-p", "fgvr-train", "--bin", "fgvr"];
    let which = [&which[..], features, &["--", subcommand]].concat();
    become_it(&call(&manifest()?, &which, args))
}

/// Becomes the example that draws a contact sheet.
pub(crate) fn sheet(args: &[String]) -> Result<ExitCode> {
    let which = ["-p", "fgvr-data", "--example", "contact_sheet", "--"];
    become_it(&call(&manifest()?, &which, args))
}

/// The workspace's `Cargo.toml`: the current folder may lie outside.
fn manifest() -> Result<String> {
    let manifest = workspace::root()?.join("Cargo.toml");
    let manifest = manifest
        .to_str()
        .with_context(|| format!("{}: not a path in UTF-8", manifest.display()))?;
    Ok(manifest.to_string())
}

fn call(manifest: &str, which: &[&str], args: &[String]) -> Cargo {
    Cargo::new(["run", "--release", "-q", "--manifest-path", manifest])
        .args(&which.iter().map(ToString::to_string).collect::<Vec<_>>())
        .args(args)
}

#[cfg(unix)]
fn become_it(cargo: &Cargo) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    eprintln!("{cargo}");
    // Returns only when it fails.
    let error = cargo.command().exec();
    Err(error).with_context(|| format!("cannot run `{cargo}`"))
}

#[cfg(not(unix))]
fn become_it(cargo: &Cargo) -> Result<ExitCode> {
    eprintln!("{cargo}");
    let status = cargo.run(std::path::Path::new("."))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_reach_the_program_unchanged() {
        let args = ["--set", "a.b=1", "--", "-q"].map(String::from);
        let which = ["-p", "fgvr-train", "--bin", "fgvr", "--", "pretrain"];
        assert_eq!(
            call("x/Cargo.toml", &which, &args).to_string(),
            "cargo run --release -q --manifest-path x/Cargo.toml -p fgvr-train --bin fgvr -- \
             pretrain --set a.b=1 -- -q"
        );
    }
}
