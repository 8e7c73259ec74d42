//! Commands that can be shown as one would type them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A call of cargo with its arguments and environment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cargo {
    args: Vec<String>,
    env: Vec<(&'static str, &'static str)>,
    nightly: bool,
}

impl Cargo {
    /// A call with these arguments.
    pub(crate) fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            nightly: false,
        }
    }

    /// The call with more arguments.
    pub(crate) fn args(mut self, args: &[String]) -> Self {
        self.args.extend_from_slice(args);
        self
    }

    /// The call for a workspace that the current folder need not be in.
    pub(crate) fn manifest(mut self, path: &Path) -> Self {
        let at = self.args.len().min(1);
        let option = ["--manifest-path".to_string(), path.display().to_string()];
        self.args.splice(at..at, option);
        self
    }

    /// The call with a variable set.
    pub(crate) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    /// The call by the nightly toolchain.
    pub(crate) fn nightly(mut self) -> Self {
        self.nightly = true;
        self
    }

    /// As a [`Command`] in the current folder.
    pub(crate) fn command(&self) -> Command {
        // Cargo names itself to what it runs, so the same one is used all the way down.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = if self.nightly {
            // `cargo +nightly` is understood by rustup's cargo only, not by the one named here.
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        } else {
            Command::new(cargo)
        };
        command.args(&self.args).envs(self.env.iter().copied());
        command
    }

    /// Runs the call in `folder` and waits for it.
    pub(crate) fn run(&self, folder: &Path) -> Result<ExitStatus> {
        self.command()
            .current_dir(folder)
            .status()
            .with_context(|| format!("cannot run `{self}`"))
    }
}

impl fmt::Display for Cargo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(if self.nightly {
            "cargo +nightly"
        } else {
            "cargo"
        })?;
        for arg in &self.args {
            write!(f, " {}", quoted(arg))?;
        }
        Ok(())
    }
}

/// Builds a program by `cargo build` with these arguments and says where it lies.
pub(crate) fn executable(root: &Path, args: &[&str], name: &str) -> Result<PathBuf> {
    let format = "--message-format=json-render-diagnostics";
    let cargo = Cargo::new([&["build"], args, &[format]].concat());
    eprintln!("{cargo}");
    let output = cargo
        .command()
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{cargo}`"))?;
    if !output.status.success() {
        bail!("`{cargo}` failed; see above");
    }
    named(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("`{cargo}` names no program {name}"))
}

/// The program called `name` among cargo's messages.
fn named(messages: &str, name: &str) -> Option<PathBuf> {
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.find_map(|message| {
        let path = message["executable"].as_str()?;
        (message["target"]["name"] == name).then(|| PathBuf::from(path))
    })
}

/// `text` as a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_as_one_would_type_it() {
        let call = Cargo::new(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(
            call.to_string(),
            "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps"
        );
        let call = Cargo::new(["run"]).args(&["a b".into(), "it's".into(), String::new()]);
        assert_eq!(call.to_string(), r"cargo run 'a b' 'it'\''s' ''");
    }

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = "{\"target\": {\"name\": \"x\"}, \"executable\": null}\nnoise\n\
            {\"target\": {\"name\": \"fgvr-bench\"}, \"executable\": \"a/fgvr-bench\"}\n\
            {\"reason\": \"build-finished\"}";
        assert_eq!(
            named(messages, "fgvr-bench"),
            Some(PathBuf::from("a/fgvr-bench"))
        );
        assert_eq!(named("{}", "fgvr-bench"), None);
        assert_eq!(named(messages, "x"), None);
    }
}
