//! Commands that can be shown as one would type them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::output;

const MINUTE: Duration = Duration::from_secs(60);

/// A call of cargo with its arguments and environment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cargo {
    args: Vec<OsString>,
    env: Vec<(&'static str, &'static str)>,
    nightly: bool,
}

impl Cargo {
    /// A call with these arguments.
    pub(crate) fn new<S: Into<OsString>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            nightly: false,
        }
    }

    /// The call with more arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args.extend(args);
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

    /// Runs the call in `folder`; what it wrote to standard output and to standard error.
    ///
    /// # Errors
    /// A call that fails, with what it wrote to standard error.
    pub(crate) fn output(&self, folder: &Path) -> Result<(String, String)> {
        let output = self
            .command()
            .current_dir(folder)
            .output()
            .with_context(|| format!("cannot run `{self}`"))?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!("`{self}`:\n{}", told.trim());
        }
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), told))
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
            write!(f, " {}", quoted(&arg.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// Builds a program by `cargo build` with these arguments and says where it lies. Cargo shows how far it is; where
/// there is no terminal for its bar, which shows that it still builds a large crate, a line a minute does.
pub(crate) fn executable(root: &Path, args: &[&str], name: &str) -> Result<PathBuf> {
    let format = "--message-format=json-render-diagnostics";
    let cargo = Cargo::new([&["build"], args, &[format]].concat());
    let (ended, end) = channel::<()>();
    let (status, messages) = std::thread::scope(|scope| -> Result<_> {
        scope.spawn(move || every(MINUTE, &end, |begun| still_building(name, begun.elapsed())));
        // Dropped with this part, which ends the lines.
        let _ended = ended;
        let mut child = cargo
            .command()
            .current_dir(root)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run `{cargo}`"))?;
        let mut messages = Vec::new();
        let mut output = child.stdout.take().context("no standard output")?;
        output.read_to_end(&mut messages)?;
        Ok((child.wait()?, messages))
    })?;
    if !status.success() {
        bail!("`{cargo}` failed; see above");
    }
    named(&String::from_utf8_lossy(&messages), name)
        .with_context(|| format!("`{cargo}` names no program {name}"))
}

/// Calls `tell` with its start after each `period`, until nobody holds the other end of `end`.
fn every(period: Duration, end: &Receiver<()>, mut tell: impl FnMut(Instant)) {
    let begun = Instant::now();
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(period) {
        tell(begun);
    }
}

fn still_building(name: &str, took: Duration) {
    if !output::draws() {
        say!("    building {name} for {} min so far", took.as_secs() / 60);
    }
}

/// Becomes `command`, so that signals and exit codes are those of the program itself.
#[cfg(unix)]
pub(crate) fn become_it(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    // Returns only when it fails.
    let error = command.exec();
    Err(error).with_context(|| cannot_run(&command))
}

/// Runs `command` and ends with its exit code: a process cannot become another here.
#[cfg(not(unix))]
pub(crate) fn become_it(mut command: Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| cannot_run(&command))?;
    Ok(code(status))
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run {}", command.get_program().display())
}

/// The exit code of a process that has ended, for this one to end with.
pub(crate) fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
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
        let call = Cargo::new(["run"]).args(["a b", "it's", ""]);
        assert_eq!(call.to_string(), r"cargo run 'a b' 'it'\''s' ''");
    }

    #[test]
    fn a_long_build_is_told_of_until_it_ends() {
        let (ended, end) = channel();
        let mut told = 0;
        let mut ended = Some(ended);
        every(Duration::from_millis(1), &end, |_| {
            told += 1;
            if told == 3 {
                ended = None;
            }
        });
        assert_eq!(told, 3);
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
