//! What of Rust is installed here.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The nightly toolchain of rustup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nightly {
    /// The target that it runs on, such as `x86_64-unknown-linux-gnu`.
    pub(crate) host: String,
    /// Whether the standard library's source is there (`rust-src`), so that it can be built.
    pub(crate) source: bool,
}

impl Nightly {
    /// The installed one; `None` without rustup or nightly.
    pub(crate) fn installed() -> Option<Self> {
        let rustc = |args: &[&str]| {
            // `rustup run` would install a toolchain that is missing.
            let listed = said(Command::new("rustup").args(["toolchain", "list"]))?;
            let found = listed.lines().any(|line| line.starts_with("nightly"));
            let mut command = Command::new("rustup");
            let run = command.args(["run", "nightly", "rustc"]).args(args);
            if found { said(run) } else { None }
        };
        let host = host(&rustc(&["-vV"])?)?;
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
        let source = sysroot.join("lib/rustlib/src/rust/library/Cargo.lock");
        Some(Self {
            host,
            source: source.is_file(),
        })
    }
}

/// Whether the toolchain in use can compile for `target`.
pub(crate) fn has_target(target: &str) -> bool {
    let folder = said(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    folder.is_some_and(|folder| {
        let mut files = std::fs::read_dir(Path::new(folder.trim()))
            .into_iter()
            .flatten();
        files.any(|file| {
            file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
        })
    })
}

/// The line `host:` of `rustc -vV`.
fn host(version: &str) -> Option<String> {
    let line = version
        .lines()
        .find_map(|line| line.strip_prefix("host:"))?;
    Some(line.trim().to_string())
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_a_line_of_the_version() {
        let text = "rustc 1.97.0-nightly\nbinary: rustc\nhost: a-b-c\nrelease: 1.97.0\n";
        assert_eq!(host(text), Some("a-b-c".to_string()));
        assert_eq!(host("rustc 1.97.0"), None);
    }

    #[test]
    fn a_target_that_does_not_exist_is_not_installed() {
        assert!(!has_target("abacus-unknown-none"));
    }
}
