//! `cargo xtask test --sanitize`: the unit tests of `fgvr-nn` under AddressSanitizer.
//!
//! The kernels read and write through pointers. Their tests hand them slices
//! of exactly the right length, and with `exact-buffers` their own scratch is of exactly the right
//! length too, so that the sanitizer sees a read or write beyond an end.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::command::Cargo;
use crate::toolchain::Nightly;
use crate::workspace;

const REMEDY: &str = "AddressSanitizer needs a nightly toolchain; install it with \
                      `rustup toolchain install nightly --component rust-src`";

/// Runs the tests; `args` go to `cargo test`.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let Some(nightly) = Nightly::installed() else {
        bail!("{REMEDY}");
    };
    if !nightly.source {
        say!(
            "without the standard library's source, its own code goes unchecked; \
             `rustup component add rust-src --toolchain nightly` adds it"
        );
    }
    let cargo = call(&nightly, args);
    say!("{cargo}");
    let status = cargo.run(&workspace::root()?)?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn call(nightly: &Nightly, args: &[String]) -> Cargo {
    // With a target named, the flags do not reach build scripts and macros. The folder of its own
    // keeps what the stable toolchain built.
    let cargo = Cargo::new(["test", "-p", "fgvr-nn", "--lib", "--target", &nightly.host])
        .args(["--features", "exact-buffers"])
        .args(["--target-dir", "target/sanitize"])
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .nightly();
    let cargo = match nightly.source {
        true => cargo.args(&["-Zbuild-std".to_string()]),
        false => cargo,
    };
    cargo.args(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_library_is_built_too_where_its_source_is_there() {
        let shown = |source| {
            let nightly = Nightly {
                host: "h".into(),
                source,
            };
            call(&nightly, &["conv".into()]).to_string()
        };
        let plain = "RUSTFLAGS=-Zsanitizer=address cargo +nightly test -p fgvr-nn --lib --target h \
                     --features exact-buffers --target-dir target/sanitize";
        assert_eq!(shown(false), format!("{plain} conv"));
        assert_eq!(shown(true), format!("{plain} -Zbuild-std conv"));
    }
}
