//! What the program prints. The macros of the standard library panic where nobody reads any more, which would end a
//! training with its terminal; everything that is printed goes through here instead.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Results, on standard output. A reader that has gone, as `head` goes, has seen enough: no error.
///
/// # Errors
/// Standard output cannot be written to, as on a full disk.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    unless_gone(written)
}

/// A result as one line of JSON, on standard output.
///
/// # Errors
/// Standard output cannot be written to, as on a full disk.
pub(crate) fn print_json(value: &impl Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?))
}

/// Results of clap's, the help and the version; what is wrong with a command line goes to standard error.
///
/// # Errors
/// Standard output cannot be written to, as on a full disk.
pub(crate) fn print_clap(message: &clap::Error) -> Result<()> {
    let written = message.print().and_then(|()| io::stdout().flush());
    match message.use_stderr() {
        // As in `say`.
        true => Ok(()),
        false => unless_gone(written),
    }
}

/// A line for whoever looks on, on standard error. Where nobody does, or the terminal has gone, the work goes on.
pub(crate) fn say(line: &str) {
    // In one piece, so that lines of several threads do not mix.
    let _ = io::stderr()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

/// Whether standard error is a terminal that can move its cursor: only there a bar can be drawn.
pub(crate) fn draws() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn unless_gone(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe && !terminal_gone(&error) => {
            Err(error).context("standard output cannot be written to")
        }
        _ => Ok(()),
    }
}

/// Whether standard output is a terminal that has hung up: the system then calls every write to it an I/O error, and
/// no longer calls it a terminal, but a device it still is.
#[cfg(unix)]
fn terminal_gone(error: &io::Error) -> bool {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileTypeExt as _;
    /// EIO, of the same number on every Unix.
    const IO_ERROR: i32 = 5;
    let device = || {
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        let about = std::fs::File::from(out).metadata()?;
        io::Result::Ok(about.file_type().is_char_device())
    };
    error.raw_os_error() == Some(IO_ERROR) && device().unwrap_or(false)
}

#[cfg(not(unix))]
fn terminal_gone(_: &io::Error) -> bool {
    false
}
