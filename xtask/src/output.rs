//! What xtask prints. The macros of the standard library panic where nobody reads any more; everything that is printed
//! goes through here instead.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};

/// A line on standard error, formatted as by `eprintln!`.
macro_rules! say {
    ($($what:tt)*) => {
        $crate::output::show(&format!("{}\n", format_args!($($what)*)))
    };
}

/// Results, on standard output. A reader that has gone, as `head` goes, has seen enough: no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written to")
        }
        _ => Ok(()),
    }
}

/// For whoever looks on, on standard error. Where nobody does, or the terminal has gone, the work goes on.
pub(crate) fn show(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard error is a terminal that can move its cursor: only there a line can change.
pub(crate) fn draws() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
