//! `metrics.jsonl`, one JSON object per row, and `metrics.csv`, the same rows as a table.
//!
//! The JSON lines are the record; the table is a view of them and is written anew whenever a row
//! brings a new column or the run is resumed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use fgvr_data::{Existing, write_whole};
use serde_json::Value;

use super::RecordError;

/// One row: names and values, with the number of completed steps under `step`.
pub type Row = serde_json::Map<String, Value>;

/// `value` as JSON; not-a-number and the infinities, which JSON lacks, become `null`.
pub fn number(value: f64) -> Value {
    Value::from(value)
}

/// Appends rows to `metrics.jsonl` and `metrics.csv` in one run folder.
#[derive(Debug)]
pub struct MetricsWriter {
    jsonl: File,
    jsonl_path: PathBuf,
    csv: File,
    csv_path: PathBuf,
    /// Columns of the table: `step`, then in the order of their first appearance.
    columns: Vec<String>,
    last_step: Option<u64>,
}

impl MetricsWriter {
    /// Starts both files in the folder `run`.
    ///
    /// # Errors
    /// When `run` already holds `metrics.jsonl`, or cannot be written.
    pub fn create(run: &Path) -> Result<Self, RecordError> {
        let path = run.join("metrics.jsonl");
        if path.exists() {
            return Err(RecordError::AlreadyThere { path });
        }
        Self::open(run, 0)
    }

    /// Goes on with the files in `run` after `step`: later rows are removed.
    ///
    /// # Errors
    /// When a line that is not the last is no row, or the files cannot be written.
    pub fn resume(run: &Path, step: u64) -> Result<Self, RecordError> {
        Self::open(run, step)
    }

    fn open(run: &Path, step: u64) -> Result<Self, RecordError> {
        let jsonl_path = run.join("metrics.jsonl");
        let jsonl = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&jsonl_path)
            .map_err(RecordError::io(&jsonl_path))?;
        let (end, last_step) = end_of_step(&jsonl_path, step)?;
        jsonl.set_len(end).map_err(RecordError::io(&jsonl_path))?;
        let csv_path = run.join("metrics.csv");
        let (csv, columns) = write_table(&jsonl_path, &csv_path)?;
        Ok(Self {
            jsonl,
            jsonl_path,
            csv,
            csv_path,
            columns,
            last_step,
        })
    }

    /// Appends `row` and returns its step.
    ///
    /// # Errors
    /// When the row has no `step`, goes back in steps, or cannot be written.
    pub fn write(&mut self, row: &Row) -> Result<u64, RecordError> {
        let step = step_of(row).ok_or_else(|| RecordError::NoStep {
            keys: row.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        if let Some(last) = self.last_step
            && step < last
        {
            return Err(RecordError::StepBack { last, found: step });
        }
        // One write per row, so a killed run loses at most the row it was writing.
        let mut line = Value::Object(row.clone()).to_string();
        line.push('\n');
        self.jsonl
            .write_all(line.as_bytes())
            .map_err(RecordError::io(&self.jsonl_path))?;
        self.last_step = Some(step);
        if add_columns(&mut self.columns, row) {
            (self.csv, self.columns) = write_table(&self.jsonl_path, &self.csv_path)?;
        } else {
            let line = csv_line(self.columns.iter().map(|name| cell(row.get(name))));
            self.csv
                .write_all(&line)
                .map_err(RecordError::io(&self.csv_path))?;
        }
        Ok(step)
    }

    /// The step of the last row.
    pub fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// Waits until all rows are on disk.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn sync(&mut self) -> Result<(), RecordError> {
        self.jsonl
            .sync_all()
            .map_err(RecordError::io(&self.jsonl_path))?;
        self.csv.sync_all().map_err(RecordError::io(&self.csv_path))
    }
}

fn step_of(row: &Row) -> Option<u64> {
    row.get("step").and_then(Value::as_u64)
}

/// Where the rows up to `step` end, in bytes, and the step of the last of them.
fn end_of_step(path: &Path, step: u64) -> Result<(u64, Option<u64>), RecordError> {
    let mut end = 0;
    let mut last = None;
    each_row(path, |row, bytes| {
        let found = step_of(row)?;
        if found > step {
            return Some(false);
        }
        end += bytes;
        last = Some(found);
        Some(true)
    })?;
    Ok((end, last))
}

/// Gives each row and its length in bytes to `take`, until `take` says `Some(false)`; `None` calls
/// the row bad. A last line without its newline is what a killed run leaves, and is left out.
fn each_row(
    path: &Path,
    mut take: impl FnMut(&Row, u64) -> Option<bool>,
) -> Result<(), RecordError> {
    let mut reader = BufReader::new(File::open(path).map_err(RecordError::io(path))?);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let bytes = reader
            .read_until(b'\n', &mut text)
            .map_err(RecordError::io(path))?;
        if text.last() != Some(&b'\n') {
            break;
        }
        let more = serde_json::from_slice::<Row>(&text)
            .ok()
            .and_then(|row| take(&row, bytes as u64));
        match more {
            Some(true) => {}
            Some(false) => break,
            None => {
                return Err(RecordError::BadRow {
                    path: path.to_path_buf(),
                    line,
                    found: beginning(&text),
                });
            }
        }
    }
    Ok(())
}

/// Adds the names in `row` that are not yet columns; says whether there were any.
fn add_columns(columns: &mut Vec<String>, row: &Row) -> bool {
    let before = columns.len();
    for name in row.keys() {
        if !columns.iter().any(|column| column == name) {
            columns.push(name.clone());
        }
    }
    columns.len() > before
}

/// Writes the table of all rows beside the old one and puts it in its place; returns it, opened at
/// its end, with its columns.
fn write_table(jsonl: &Path, csv: &Path) -> Result<(File, Vec<String>), RecordError> {
    let mut columns = vec!["step".to_string()];
    each_row(jsonl, |row, _| {
        add_columns(&mut columns, row);
        Some(true)
    })?;
    let mut table = csv_line(columns.iter().cloned());
    each_row(jsonl, |row, _| {
        table.extend(csv_line(columns.iter().map(|name| cell(row.get(name)))));
        Some(true)
    })?;
    let file = write_whole(csv, Existing::Replace, |file| file.write_all(&table))
        .map_err(RecordError::io(csv))?;
    Ok((file, columns))
}

/// Text of one cell: numbers as in the JSON line, nothing for a missing value or `null`.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// One line of the table, quoted as RFC 4180 asks, ended by a single newline.
fn csv_line(cells: impl Iterator<Item = String>) -> Vec<u8> {
    let cells: Vec<String> = cells
        .map(|cell| {
            if cell.contains(['"', ',', '\n', '\r']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell
            }
        })
        .collect();
    let mut line = cells.join(",").into_bytes();
    line.push(b'\n');
    line
}

/// What stands on a line, as far as it fits a message.
fn beginning(line: &[u8]) -> String {
    const SHOWN: usize = 80;
    let line = String::from_utf8_lossy(line);
    let mut shown: String = line.trim().chars().take(SHOWN).collect();
    if shown.len() < line.trim().len() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_new_column_leaves_earlier_rows_blank_and_null_is_blank() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = MetricsWriter::create(run.path()).unwrap();
        writer.write(&row(r#"{"step":1,"loss":0.5}"#)).unwrap();
        writer
            .write(&row(r#"{"step":2,"loss":null,"note":"a, \"b\""}"#))
            .unwrap();
        writer.write(&row(r#"{"step":3,"loss":0.25}"#)).unwrap();
        let table = std::fs::read_to_string(run.path().join("metrics.csv")).unwrap();
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        let header: Vec<String> = reader.headers().unwrap().iter().map(Into::into).collect();
        assert_eq!(header[0], "step");
        let read: Vec<std::collections::HashMap<String, String>> =
            reader.deserialize().map(Result::unwrap).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0]["loss"], "0.5");
        assert_eq!(read[0]["note"], "");
        assert_eq!(read[1]["loss"], "");
        assert_eq!(read[1]["note"], "a, \"b\"");
        assert_eq!(read[2]["loss"], "0.25");
    }

    #[test]
    fn resuming_before_a_column_appeared_removes_the_column() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = MetricsWriter::create(run.path()).unwrap();
        writer.write(&row(r#"{"step":1,"loss":0.5}"#)).unwrap();
        writer.write(&row(r#"{"step":2,"accuracy":0.5}"#)).unwrap();
        let writer = MetricsWriter::resume(run.path(), 1).unwrap();
        assert_eq!(writer.last_step(), Some(1));
        let table = std::fs::read_to_string(run.path().join("metrics.csv")).unwrap();
        assert_eq!(table, "step,loss\n1,0.5\n");
    }

    #[test]
    fn a_torn_last_line_is_removed_and_a_bad_line_before_it_is_an_error() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2,\"lo").unwrap();
        let mut writer = MetricsWriter::resume(run.path(), 9).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":1}\n");
        writer.write(&row(r#"{"step":2}"#)).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"step\":1}\n{\"step\":2}\n"
        );

        std::fs::write(&path, "{\"step\":1}\nnot a row\n{\"step\":3}\n").unwrap();
        let error = MetricsWriter::resume(run.path(), 9).unwrap_err();
        assert!(
            matches!(error, RecordError::BadRow { line: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn rows_without_a_step_or_going_back_are_refused() {
        let run = tempfile::tempdir().unwrap();
        let mut writer = MetricsWriter::create(run.path()).unwrap();
        let error = writer.write(&row(r#"{"loss":1}"#)).unwrap_err();
        assert!(matches!(error, RecordError::NoStep { .. }), "{error}");
        writer.write(&row(r#"{"step":5}"#)).unwrap();
        let error = writer.write(&row(r#"{"step":4}"#)).unwrap_err();
        assert!(
            matches!(error, RecordError::StepBack { last: 5, found: 4 }),
            "{error}"
        );
        let text = std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        assert_eq!(text, "{\"step\":5}\n");
    }

    #[test]
    fn a_new_run_does_not_write_over_an_old_one() {
        let run = tempfile::tempdir().unwrap();
        MetricsWriter::create(run.path()).unwrap();
        let error = MetricsWriter::create(run.path()).unwrap_err();
        assert!(matches!(error, RecordError::AlreadyThere { .. }), "{error}");
    }

    #[test]
    fn numbers_that_json_lacks_are_null() {
        assert_eq!(number(f64::NAN), Value::Null);
        assert_eq!(number(f64::INFINITY), Value::Null);
        assert_eq!(number(0.1), serde_json::json!(0.1));
    }
}
