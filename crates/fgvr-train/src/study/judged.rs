//! What one network's features came to, query by query, as a file: later analysis needs no network.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::comparison::{Form, JudgedFigure};
use crate::CompareFigure;
use crate::adapt::{Answered, AnsweredRow};
use crate::run_folder::write_atomically;
use crate::{Error, Result};

/// The file's name, in the folder of a run, a frozen arm or the start.
pub const JUDGED: &str = "judged.json";

/// What is in it now; another number is of another version of fgvr.
const FORMAT: u32 = 1;

/// What one network's features came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The version of this file.
    format: u32,
    /// The photos that asked: those of the test split, or of the validation split where the former has none with labels.
    /// `None` without labels.
    pub queries_of: Option<String>,
    /// Their classes as numbers, in the order of all answers.
    pub labels: Vec<u32>,
    /// Photos left out of them, since there is no training photo of their class.
    pub left_out: usize,
    /// Photos among which was searched, and which the probe was fitted to.
    pub searched: usize,
    /// Seconds of embedding, fitting and judging.
    pub seconds: f64,
    /// One for each form.
    pub rows: Vec<JudgedRow>,
}

/// One form of the features. Figures are fractions in [0, 1], `None` without labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedRow {
    /// What was done to the features.
    pub form: Form,
    /// The share of queries whose nearest photos vote for their class.
    #[serde(rename = "kNN")]
    pub knn: Option<f64>,
    /// The mean average precision of the photos that are searched.
    #[serde(rename = "mAP")]
    pub map: Option<f64>,
    /// The share of queries whose class a linear probe names.
    pub probe: Option<f64>,
    /// Measures without labels.
    pub label_free: LabelFreeMeasures,
    /// What each query came to.
    pub answers: QueryAnswers,
}

/// Measures of photos that neither training nor the closed form has seen; `None` with fewer than two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelFreeMeasures {
    /// The share of photos whose other view is found first.
    pub found_first: Option<f64>,
    /// The mean reciprocal rank of the other view.
    pub reciprocal_rank: Option<f64>,
    /// The share of nearest photos that two halves have in common.
    pub agreement: Option<f64>,
    /// The effective rank of the training photos' features.
    pub effective_rank: f64,
}

impl LabelFreeMeasures {
    /// Each by its name.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("found first", self.found_first),
            ("reciprocal rank", self.reciprocal_rank),
            ("agreement", self.agreement),
            ("effective rank", Some(self.effective_rank)),
        ]
    }
}

/// Query by query, in the order of [`Judged::labels`]; empty where a figure was not made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueryAnswers {
    /// Whether the nearest photos vote for its class.
    #[serde(rename = "kNN")]
    pub knn: Vec<bool>,
    /// The average precision of the photos that are searched.
    #[serde(rename = "AP")]
    pub average_precision: Vec<Option<f64>>,
    /// Whether the probe names its class.
    pub probe: Vec<bool>,
}

impl Judged {
    /// From what queries answered.
    #[must_use]
    pub(super) fn new(answered: &Answered) -> Self {
        let asked = answered.asked.as_ref();
        let plain = answered.plain.as_ref().map(|row| (Form::Plain, row));
        let adapted = (Form::ClosedForm, &answered.adapted);
        let rows = plain.into_iter().chain([adapted]);
        Self {
            format: FORMAT,
            queries_of: asked.map(|asked| asked.queries_of.name().to_owned()),
            labels: asked.map_or_else(Vec::new, |asked| asked.labels.clone()),
            left_out: asked.map_or(0, |asked| asked.left_out),
            searched: asked.map_or(0, |asked| asked.searched),
            seconds: answered.seconds,
            rows: rows.map(|(form, row)| JudgedRow::new(form, row)).collect(),
        }
    }

    /// The file that `folder` holds; `None` where there is none yet.
    ///
    /// # Errors
    /// A file that cannot be read, or is of another version.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(JUDGED);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let again = "remove it, and the same command judges anew";
        let judged: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::run(&path, format!("holds no judgement ({error}); {again}")))?;
        if judged.format != FORMAT {
            let found = format!("is of format {}, expected {FORMAT}; {again}", judged.format);
            return Err(Error::run(&path, found));
        }
        Ok(Some(judged))
    }

    /// Puts the file into `folder`, whole or not at all.
    ///
    /// # Errors
    /// A folder that takes no files.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(JUDGED);
        let bytes = serde_json::to_vec(self).map_err(|e| Error::run(&path, e.to_string()))?;
        write_atomically(&path, &bytes)
    }

    /// The row of `form`.
    #[must_use]
    pub fn row(&self, form: Form) -> Option<&JudgedRow> {
        self.rows.iter().find(|row| row.form == form)
    }
}

impl JudgedRow {
    fn new(form: Form, row: &AnsweredRow) -> Self {
        let values = |figure: CompareFigure| -> Vec<Option<f64>> {
            let answers = row.answers.as_ref();
            answers.map_or_else(Vec::new, |answers| answers.values(figure))
        };
        let right = |figure: CompareFigure| -> Vec<bool> {
            let values = values(figure).into_iter();
            values.map(|value| value.is_some_and(|v| v > 0.5)).collect()
        };
        let label_free = &row.label_free;
        let answers = QueryAnswers {
            knn: right(CompareFigure::Knn),
            average_precision: values(CompareFigure::Map),
            probe: right(CompareFigure::Linear),
        };
        let figure = |figure| mean(&answers.values(figure));
        Self {
            form,
            knn: figure(JudgedFigure::Knn),
            map: figure(JudgedFigure::Map),
            probe: figure(JudgedFigure::Probe),
            label_free: LabelFreeMeasures {
                found_first: label_free.found_first,
                reciprocal_rank: label_free.reciprocal_rank,
                agreement: label_free.agreement,
                effective_rank: label_free.effective_rank,
            },
            answers,
        }
    }

    /// A figure of all queries.
    #[must_use]
    pub fn figure(&self, figure: JudgedFigure) -> Option<f64> {
        match figure {
            JudgedFigure::Knn => self.knn,
            JudgedFigure::Map => self.map,
            JudgedFigure::Probe => self.probe,
        }
    }
}

impl QueryAnswers {
    /// The values of a figure, query by query: `None` for a query without one; none at all where it was not made.
    #[must_use]
    pub fn values(&self, figure: JudgedFigure) -> Vec<Option<f64>> {
        let of = |right: &[bool]| {
            let right = right.iter();
            right.map(|r| Some(f64::from(u8::from(*r)))).collect()
        };
        match figure {
            JudgedFigure::Knn => of(&self.knn),
            JudgedFigure::Map => self.average_precision.clone(),
            JudgedFigure::Probe => of(&self.probe),
        }
    }
}

/// The mean of those that are there; `None` without any.
fn mean(values: &[Option<f64>]) -> Option<f64> {
    let there: Vec<f64> = values.iter().flatten().copied().collect();
    (!there.is_empty()).then(|| there.iter().sum::<f64>() / there.len() as f64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Judged plain and after the closed form: what kNN answered, with AP and probe alike.
    pub(in super::super) fn judged(labels: &[u32], forms: [&[bool]; 2]) -> Judged {
        let row = |form, right: &[bool]| {
            let value = |r: &bool| f64::from(u8::from(*r));
            let answers = QueryAnswers {
                knn: right.to_vec(),
                average_precision: right.iter().map(|r| Some(value(r))).collect(),
                probe: right.to_vec(),
            };
            let share = mean(&answers.values(JudgedFigure::Knn));
            JudgedRow {
                form,
                knn: share,
                map: share,
                probe: share,
                label_free: LabelFreeMeasures {
                    found_first: share.map(|v| v / 2.),
                    reciprocal_rank: Some(0.5),
                    agreement: share.map(|v| -v),
                    effective_rank: 3.,
                },
                answers,
            }
        };
        Judged {
            format: FORMAT,
            queries_of: Some("test".to_owned()),
            labels: labels.to_vec(),
            left_out: 0,
            searched: 10,
            seconds: 1.,
            rows: Form::ALL
                .into_iter()
                .zip(forms)
                .map(|(form, right)| row(form, right))
                .collect(),
        }
    }

    #[test]
    fn a_judgement_is_read_as_it_was_written_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Judged::read(folder.path()).unwrap(), None);
        let judged = judged(&[0, 0, 1], [&[true, false, true], &[true, true, true]]);
        judged.write(folder.path()).unwrap();
        assert_eq!(Judged::read(folder.path()).unwrap(), Some(judged.clone()));
        let plain = judged.row(Form::Plain).unwrap();
        assert_eq!(plain.figure(JudgedFigure::Knn), Some(2. / 3.));
        let path = folder.path().join(JUDGED);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"format\":1", "\"format\":2")).unwrap();
        let error = Judged::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format 2, expected 1"), "{error}");
        fs::write(&path, "{").unwrap();
        let error = Judged::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("judges anew"), "{error}");
    }
}
