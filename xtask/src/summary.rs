//! What is said of the stages of the checks in the end.

use std::time::Duration;

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    Failed,
    /// Something it needs is not installed.
    Skipped,
}

/// End and time of each stage.
pub(crate) fn summary(times: &[(&str, Duration, End)], total: Duration) -> String {
    let mut text = String::new();
    for (name, took, end) in times {
        let word = match end {
            End::Passed => "passed",
            End::Failed => "FAILED",
            End::Skipped => "SKIPPED",
        };
        text.push_str(&format!("{word:<7} {name:<14} {:>12}\n", shown(*took)));
    }
    text.push_str(&format!("{:<22} {:>12}", "in all", shown(total)));
    text
}

/// A time for people.
pub(crate) fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let seconds = seconds.round() as u64;
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_marks_what_failed_and_what_was_skipped() {
        let times = [
            ("format", Duration::from_millis(1500), End::Passed),
            ("cross", Duration::ZERO, End::Skipped),
            ("clippy", Duration::from_secs(125), End::Failed),
        ];
        let text = summary(&times, Duration::from_secs(126));
        assert_eq!(
            text,
            "passed  format                1.5 s\n\
             SKIPPED cross                 0.0 s\n\
             FAILED  clippy           2 min 05 s\n\
             in all                   2 min 06 s"
        );
    }
}
