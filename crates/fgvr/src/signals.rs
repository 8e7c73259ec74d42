//! Signals ask a run to save and leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::output::say;

/// A signal asked the run to leave: its state is saved.
pub(crate) const INTERRUPTED: u8 = 130;

/// How often the flag is looked at, to say that it was raised: a step may take long.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A flag that the first signal raises: Ctrl-C, the system's request to end, or the loss of the terminal.
pub(crate) fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop: Arc<AtomicBool> = Arc::default();
    // By Ctrl-C or SIGTERM, of which a second does not wait for the step.
    let asked: Arc<AtomicBool> = Arc::default();
    let register = |signal| -> std::io::Result<()> {
        // Before the line that raises the flag it looks at: handlers run in turn.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&stop)).map(drop)
    };
    register(SIGINT)
        .and_then(|()| register(SIGTERM))
        .and_then(|()| stop_on_hangup(&stop))
        .context("no handler for signals can be set")?;
    let seen = Arc::clone(&stop);
    std::thread::spawn(move || {
        while !seen.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK_EVERY);
        }
        say("saving, then leaving; a second signal leaves at once");
    });
    Ok(stop)
}

/// A terminal that goes sends its signal more than once, from the shell and from the system, and others may follow: it
/// does not count as the first of two that leave at once. Under `nohup` the run outlives its terminal.
#[cfg(unix)]
fn stop_on_hangup(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    match ignored(signal_hook::consts::SIGHUP) {
        true => Ok(()),
        false => flag::register(signal_hook::consts::SIGHUP, Arc::clone(stop)).map(drop),
    }
}

#[cfg(not(unix))]
fn stop_on_hangup(_: &Arc<AtomicBool>) -> std::io::Result<()> {
    Ok(())
}

/// Whether this process was started with `signal` ignored, as by `nohup`; known on Linux alone.
#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status, signal)
}

/// Whether `signal` is in the mask of ignored signals of a process's `status`.
#[cfg(unix)]
fn ignored_in(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tfgvr\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n";
        assert!(ignored_in(status, signal_hook::consts::SIGHUP));
        assert!(!ignored_in(status, SIGINT));
        assert!(!ignored_in("", SIGINT));
    }
}
