//! What a person sees of a run: a bar on a terminal, plain lines in a log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fgvr_data::Found;
use fgvr_train::{Observer, StepRow, path_text};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::output::{draws, say};

/// Seconds between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    stop: Arc<AtomicBool>,
    bar: Option<ProgressBar>,
    first: u64,
    total: u64,
    started: Instant,
    last_line: Instant,
    /// When and where the counting of the present phase began.
    counted: Option<(Instant, u64)>,
    /// What was found where data was last opened.
    pub(crate) found: Option<Found>,
}

impl Progress {
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Self {
        Self {
            stop,
            bar: None,
            first: 0,
            total: 0,
            started: Instant::now(),
            last_line: Instant::now(),
            counted: None,
            found: None,
        }
    }

    fn tell(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// A bar on a terminal, a line now and then in a log; gone when all is done.
    fn count(&mut self, done: u64, total: u64, template: &str, shown: impl Fn(u64) -> String) {
        let (since, first) = *self.counted.get_or_insert((Instant::now(), done));
        if draws() {
            let bar = self.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template(template);
                ProgressBar::new(total)
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_length(total);
            bar.set_position(done);
            if done >= total
                && let Some(bar) = self.bar.take()
            {
                bar.finish_and_clear();
            }
        } else if self.last_line.elapsed() >= LINE_EVERY {
            let each = since.elapsed().as_secs_f64() / done.saturating_sub(first).max(1) as f64;
            let left = match (done > first, total >= done) {
                (true, true) => {
                    let left = Duration::from_secs_f64(each * (total - done) as f64);
                    format!(", {} left", duration(left))
                }
                _ => String::new(),
            };
            say(&format!("{} of {}{left}", shown(done), shown(total)));
            self.last_line = Instant::now();
        }
    }

    fn eta(&self, step: u64) -> String {
        let done = step.saturating_sub(self.first).max(1);
        let left = self.started.elapsed().as_secs_f64() / done as f64
            * self.total.saturating_sub(step) as f64;
        duration(Duration::from_secs_f64(left))
    }
}

impl Observer for Progress {
    fn on_start(&mut self, run: Option<&Path>, step: u64, total: u64) {
        if let Some(run) = run {
            self.tell(&format!("run folder: {}", path_text(run)));
        }
        (self.first, self.total, self.started) = (step, total, Instant::now());
        if draws() {
            let bar = ProgressBar::new(total);
            let style = ProgressStyle::with_template(
                "{bar:30} {pos}/{len} steps  {elapsed} elapsed, {eta} left  {msg}",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(step);
            bar.reset_eta();
            self.bar = Some(bar);
        }
    }

    fn on_step(&mut self, row: &StepRow) {
        let figures = format!(
            "loss {:.3}  {:.0} images/s",
            row.loss, row.images_per_second
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(row.step);
                bar.set_message(figures);
            }
            None if self.last_line.elapsed() >= LINE_EVERY || row.step == self.total => {
                say(&format!(
                    "step {}/{}  epoch {}  {figures}  {} left",
                    row.step,
                    self.total,
                    row.epoch,
                    self.eta(row.step)
                ));
                self.last_line = Instant::now();
            }
            None => {}
        }
    }

    fn on_data(&mut self, found: &Found) {
        for line in found.lines() {
            self.tell(&line);
        }
        self.found = Some(found.clone());
    }

    fn on_message(&mut self, line: &str) {
        self.tell(line);
    }

    fn on_phase(&mut self, name: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.counted = None;
        say(&format!("{name} ..."));
    }

    fn on_images(&mut self, done: usize, total: usize) {
        self.count(
            done as u64,
            total as u64,
            "{bar:30} {pos}/{len} images  {eta} left",
            |n| format!("{n} images"),
        );
    }

    fn on_download(&mut self, name: &str, done: u64, total: u64) {
        if done == 0 {
            self.on_phase(&format!("fetching {name}"));
        }
        let template = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        self.count(done, total, template, |n| HumanBytes(n).to_string());
    }

    fn should_stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// `1 h 02 min`, `3 min 20 s` or `12 s`.
pub(crate) fn duration(time: Duration) -> String {
    let s = time.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let text = |s| duration(Duration::from_secs(s));
        assert_eq!(
            [text(5), text(200), text(3725)],
            ["5 s", "3 min 20 s", "1 h 02 min"]
        );
    }
}
