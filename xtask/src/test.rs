//! `cargo xtask test`: every test of the workspace, in the development profile, which is optimised.

use std::process::ExitCode;

use anyhow::Result;

use crate::command::Cargo;
use crate::{sanitize, workspace};

/// Runs `cargo test`, on the whole workspace unless `args` choose packages; with `--sanitize`, the
/// tests of the kernels under AddressSanitizer.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    if let Some((_, rest)) = args
        .split_first()
        .filter(|(first, _)| *first == "--sanitize")
    {
        return sanitize::run(rest);
    }
    let cargo = call(args);
    say!("{cargo}");
    let status = cargo.run(&workspace::root()?)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn call(args: &[String]) -> Cargo {
    let ours = args.split(|arg| arg == "--").next().unwrap_or_default();
    let chosen = ours
        .iter()
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package") || arg == "--workspace");
    let all: &[&str] = if chosen {
        &["test"]
    } else {
        &["test", "--workspace"]
    };
    Cargo::new(all.iter().copied()).args(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packages_are_tested_unless_some_are_chosen() {
        let shown = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            call(&args).to_string()
        };
        assert_eq!(shown(&[]), "cargo test --workspace");
        assert_eq!(
            shown(&["-p", "fgvr-nn", "conv"]),
            "cargo test -p fgvr-nn conv"
        );
        assert_eq!(shown(&["--", "-p"]), "cargo test --workspace -- -p");
    }
}
