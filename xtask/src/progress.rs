//! How far the measurement is, on standard error.

use std::time::{Duration, Instant};

use crate::output::{draws, show};

/// Counts work in units that take about the same time, and guesses from what is done how long the
/// rest takes.
pub(crate) struct Progress {
    start: Instant,
    total: usize,
    done: usize,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            start: Instant::now(),
            total,
            done: 0,
            terminal: draws(),
        }
    }

    /// Says what comes next: on a terminal in one line that changes, elsewhere only cases.
    pub(crate) fn now(&mut self, case: &str, what: &str) {
        let line = self.line(case, what);
        if self.terminal {
            show(&format!("\r\x1b[K{line}"));
        } else if what == "preparing" {
            say!("{line}");
        }
    }

    /// So many units are done.
    pub(crate) fn step(&mut self, units: usize) {
        self.done += units;
    }

    /// Units that will not come.
    pub(crate) fn skip(&mut self, units: usize) {
        self.total = self.total.saturating_sub(units).max(self.done);
    }

    /// Something to keep on the screen.
    pub(crate) fn note(&self, text: &str) {
        if self.terminal {
            show("\r\x1b[K");
        }
        say!("{text}");
    }

    /// Clears the changing line.
    pub(crate) fn end(&self) {
        if self.terminal {
            show("\r\x1b[K");
        }
        say!("measured in {}", shown(self.start.elapsed()));
    }

    fn line(&self, case: &str, what: &str) -> String {
        let percent = 100 * self.done / self.total.max(1);
        let mut line = format!("[{percent:>2} %] {case}: {what}");
        if let Some(left) = left(self.start.elapsed(), self.done, self.total) {
            line.push_str(&format!("; about {} left", shown(left)));
        }
        line
    }
}

/// Time left, if the units to come are like those done.
fn left(elapsed: Duration, done: usize, total: usize) -> Option<Duration> {
    if done == 0 {
        return None;
    }
    let rest = total.saturating_sub(done) as f64 / done as f64;
    Some(elapsed.mul_f64(rest))
}

fn shown(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_guessed_from_what_is_done() {
        let elapsed = Duration::from_secs(30);
        assert_eq!(left(elapsed, 0, 10), None);
        assert_eq!(left(elapsed, 3, 12), Some(Duration::from_secs(90)));
        assert_eq!(left(elapsed, 12, 12), Some(Duration::ZERO));
        assert_eq!(shown(Duration::from_secs(90)), "1 min 30 s");
    }
}
