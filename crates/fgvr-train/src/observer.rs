//! How a program follows a run.

use std::path::Path;

use fgvr_data::Found;

use crate::step_row::StepRow;

/// Follows a run: a program draws a bar, a test counts steps. Every method does nothing by default.
pub trait Observer {
    /// Training starts or goes on at `step` of `total`, in the folder `run` if it leaves one.
    fn on_start(&mut self, _run: Option<&Path>, _step: u64, _total: u64) {}
    /// A step is done.
    fn on_step(&mut self, _row: &StepRow) {}
    /// A data set was opened: what was found there, and what of it is not used. Told as messages, unless
    /// this is overridden.
    fn on_data(&mut self, found: &Found) {
        for line in found.lines() {
            self.on_message(&line);
        }
    }
    /// Something a person should read: one line.
    fn on_message(&mut self, _line: &str) {}
    /// A phase after the training begins, such as "evaluating pixels".
    fn on_phase(&mut self, _name: &str) {}
    /// `done` images of `total` are done, in the phase that began last.
    fn on_images(&mut self, _done: usize, _total: usize) {}
    /// `done` bytes of `total` (0 where unknown) are here of the file `name` that is being fetched.
    fn on_download(&mut self, _name: &str, _done: u64, _total: u64) {}
    /// Whether the run should save and leave; asked before every step.
    fn should_stop(&self) -> bool {
        false
    }
}

/// Follows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
