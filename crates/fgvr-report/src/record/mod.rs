//! What a run writes down while it goes: `metrics.jsonl`, `metrics.csv` and TensorBoard events.
//!
//! A row belongs to a step, and a checkpoint of step `n` promises that every row of step `n` and
//! before stands on disk. So a run that goes on from that checkpoint first cuts away what was
//! written after it ([`Recorder::resume`]), and ends with the same files as a run that was never
//! stopped.

mod error;
mod metrics;
mod protobuf;
pub mod tensorboard;
mod tfrecord;

pub use error::RecordError;
pub use metrics::{MetricsWriter, Row, number};

use std::path::Path;

use tensorboard::EventWriter;

/// Writes one row to every place that keeps metrics.
#[derive(Debug)]
pub struct Recorder {
    metrics: MetricsWriter,
    events: EventWriter,
}

impl Recorder {
    /// Starts the records of a new run in the folder `run`.
    ///
    /// # Errors
    /// When `run` already holds metrics, or cannot be written.
    pub fn create(run: &Path) -> Result<Self, RecordError> {
        Ok(Self {
            metrics: MetricsWriter::create(run)?,
            events: EventWriter::create(run)?,
        })
    }

    /// Goes on with the records of the run in `run` after the checkpoint of `step`: rows and events
    /// of later steps are removed. A folder without records starts empty.
    ///
    /// # Errors
    /// When a file holds something else than what this type writes; a torn last line or event, as a
    /// killed run leaves it, is removed.
    pub fn resume(run: &Path, step: u64) -> Result<Self, RecordError> {
        Ok(Self {
            metrics: MetricsWriter::resume(run, step)?,
            events: EventWriter::resume(run, step)?,
        })
    }

    /// Writes `row` to both metrics files, and each number in it as a TensorBoard scalar.
    ///
    /// # Errors
    /// When the row has no `step`, goes back in steps, or cannot be written.
    pub fn row(&mut self, row: &Row) -> Result<(), RecordError> {
        let step = self.metrics.write(row)?;
        let scalars: Vec<(&str, f32)> = row
            .iter()
            .filter(|(name, _)| name.as_str() != "step")
            .filter_map(|(name, value)| Some((name.as_str(), value.as_f64()? as f32)))
            .collect();
        self.events.scalars(step, &scalars)
    }

    /// Shows the PNG file `png` in TensorBoard under `tag`.
    ///
    /// # Errors
    /// When `png` is not a PNG file or cannot be written.
    pub fn image(&mut self, tag: &str, step: u64, png: &[u8]) -> Result<(), RecordError> {
        self.events.image(tag, step, png)
    }

    /// The step of the last row on record.
    pub fn last_step(&self) -> Option<u64> {
        self.metrics.last_step()
    }

    /// Waits until all rows and events are on disk. Call it before a checkpoint is made known.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn sync(&mut self) -> Result<(), RecordError> {
        self.metrics.sync()?;
        self.events.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, loss: f64) -> Row {
        let mut row = Row::new();
        row.insert("step".into(), step.into());
        row.insert("loss".into(), number(loss));
        row
    }

    #[test]
    fn a_resumed_run_writes_the_same_metrics_as_an_uninterrupted_one() {
        let whole = tempfile::tempdir().unwrap();
        let cut = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(whole.path()).unwrap();
        for step in 1..=9 {
            recorder.row(&row(step, 1.0 / step as f64)).unwrap();
        }
        let mut recorder = Recorder::create(cut.path()).unwrap();
        for step in 1..=7 {
            recorder.row(&row(step, 1.0 / step as f64)).unwrap();
        }
        let mut recorder = Recorder::resume(cut.path(), 4).unwrap();
        assert_eq!(recorder.last_step(), Some(4));
        for step in 5..=9 {
            recorder.row(&row(step, 1.0 / step as f64)).unwrap();
        }
        recorder.sync().unwrap();
        for name in ["metrics.jsonl", "metrics.csv"] {
            assert_eq!(
                std::fs::read_to_string(whole.path().join(name)).unwrap(),
                std::fs::read_to_string(cut.path().join(name)).unwrap(),
                "{name}"
            );
        }
        let scalars = |run: &Path| -> Vec<(u64, f32)> {
            tensorboard::event_files(run)
                .unwrap()
                .iter()
                .flat_map(|file| tensorboard::read(file).unwrap())
                .flat_map(|event| {
                    let step = event.step;
                    event
                        .scalars
                        .into_iter()
                        .map(move |(_, value)| (step, value))
                })
                .collect()
        };
        assert_eq!(scalars(whole.path()), scalars(cut.path()));
    }
}
