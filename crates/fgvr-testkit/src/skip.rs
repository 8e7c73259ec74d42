//! Tests that cannot run where something is missing.

use std::fmt::Display;
use std::io::Write as _;

/// Says why a test does not run here, where a person sees it: the test harness keeps what `eprintln!` writes
/// to itself when a test passes.
pub fn skipped(why: impl Display) {
    // Nobody to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
