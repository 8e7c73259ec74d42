//! Commands that can be shown as one would type them.

use std::fmt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

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
}
