//! An embedding file as a table: what `fgvr embed` wrote, or anyone's npz.

use std::collections::BTreeMap;
use std::path::Path;

use super::npy::{Array, Values};
use super::npz::Npz;
use crate::{EmbeddingTable, Error, Result};

/// What splits are called, and what they are.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("val", &["val", "valid", "validation", "dev"]),
    ("test", &["test", "testing"]),
];

impl EmbeddingTable {
    /// Reads an npz archive: `features` or `embeddings` (N, C), and where they are there `labels` (N), whole numbers or
    /// names, below 0 or empty for none; `splits` (N), names of splits; `classes`, names by label; `paths` (N);
    /// `adaptation`, what the features were transformed by. Without `splits` all rows are of `train`.
    ///
    /// # Errors
    /// No archive, no features (the arrays that are there are named), arrays that do not fit each other, features that
    /// are not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let mut archive = Npz::open(path)?;
        let problem = |problem: String| Error::config(path.display().to_string(), problem);
        let features = match archive.read("features")? {
            Some(features) => Some(features),
            None => archive.read("embeddings")?,
        };
        let Some(features) = features else {
            let found: Vec<&str> = archive.names().take(12).collect();
            let found = match found.as_slice() {
                [] => "no array at all".to_owned(),
                names => names.join(", "),
            };
            return Err(problem(format!(
                "has no array `features` or `embeddings`; there is {found}"
            )));
        };
        let (rows, width) = match *features.shape.as_slice() {
            [rows, width] if rows > 0 && width > 0 => (rows, width),
            _ => {
                return Err(problem(format!(
                    "features are {:?}, expected (N, C), a row for each photo",
                    features.shape
                )));
            }
        };
        let features = match features.values {
            Values::Real(values) => values,
            other => {
                return Err(problem(format!(
                    "features are {}, expected real numbers",
                    other.kind()
                )));
            }
        };
        let (mut bad, mut first) = (0, None);
        for (row, values) in features.chunks_exact(width).enumerate() {
            if let Some(column) = values.iter().position(|value| !value.is_finite()) {
                bad += 1;
                first.get_or_insert((row, column, values[column]));
            }
        }
        if let Some((row, column, value)) = first {
            return Err(problem(format!(
                "{bad} of {rows} rows of features are not finite, row {row} the first of them ({value} in column \
                 {column}); leave them out"
            )));
        }
        let mut of_rows = |name: &str| -> Result<Option<Array>> {
            let Some(array) = archive.read(name)? else {
                return Ok(None);
            };
            if array.shape != [rows] {
                return Err(problem(format!(
                    "{name} are {:?}, expected ({rows}), one for each row of features",
                    array.shape
                )));
            }
            Ok(Some(array))
        };
        let labels = of_rows("labels")?.map(|array| array.values);
        let splits = of_rows("splits")?.map(|array| array.values);
        let paths = of_rows("paths")?.map(|array| array.values);
        let mut texts = |name: &str| -> Result<Option<Vec<String>>> {
            match archive.read(name)?.map(|array| array.values) {
                None => Ok(None),
                Some(Values::Text(texts)) => Ok(Some(texts)),
                Some(other) => Err(problem(format!(
                    "{name} are {}, expected texts",
                    other.kind()
                ))),
            }
        };
        let named = texts("classes")?;
        let adaptation = texts("adaptation")?.and_then(|texts| texts.into_iter().next());
        let (labels, classes) = match labels {
            None => (vec![-1; rows], named.unwrap_or_default()),
            Some(Values::Text(names)) => numbered(&names),
            Some(Values::Whole(labels)) => {
                let classes = match named {
                    Some(classes) => classes,
                    None => unnamed(&labels),
                };
                within(&labels, &classes).map_err(problem)?;
                (labels, classes)
            }
            Some(Values::Real(_)) => {
                return Err(problem(
                    "labels are real numbers, expected whole numbers or names".to_owned(),
                ));
            }
        };
        let splits = match splits {
            None => vec!["train"; rows],
            Some(Values::Text(names)) => names
                .iter()
                .map(|name| {
                    split(name).ok_or_else(|| {
                        problem(format!(
                            "a row is of the split {name:?}, expected train, val or test"
                        ))
                    })
                })
                .collect::<Result<_>>()?,
            Some(other) => {
                return Err(problem(format!(
                    "splits are {}, expected names: train, val or test",
                    other.kind()
                )));
            }
        };
        let paths = match paths {
            Some(Values::Text(paths)) => paths,
            _ => (0..rows).map(|row| format!("row {row}")).collect(),
        };
        Ok(Self {
            features,
            width,
            paths,
            splits,
            labels,
            classes,
            device: String::new(),
            adaptation: adaptation.filter(|name| !name.is_empty() && name != "none"),
        })
    }
}

/// The split that a name stands for.
fn split(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let mut splits = SPLITS.iter();
    splits
        .find(|(_, names)| names.contains(&name.as_str()))
        .map(|(split, _)| *split)
}

/// Names as labels, classes in the order of the alphabet; no name is no label.
fn numbered(names: &[String]) -> (Vec<i64>, Vec<String>) {
    let mut order: BTreeMap<&str, i64> = BTreeMap::new();
    for name in names.iter().filter(|name| !name.is_empty()) {
        order.insert(name, 0);
    }
    for (number, place) in order.values_mut().enumerate() {
        *place = number as i64;
    }
    let labels = names
        .iter()
        .map(|name| order.get(name.as_str()).copied().unwrap_or(-1));
    (
        labels.collect(),
        order.keys().map(|name| (*name).to_owned()).collect(),
    )
}

/// Numbers as names of classes, up to the largest label; none where that is larger than anyone's classes.
fn unnamed(labels: &[i64]) -> Vec<String> {
    let largest = labels.iter().max().copied().unwrap_or(-1);
    match usize::try_from(largest + 1) {
        Ok(count) if count <= labels.len().max(1 << 20) => {
            (0..count).map(|class| class.to_string()).collect()
        }
        _ => Vec::new(),
    }
}

/// That each label that is not below 0 is a class.
fn within(labels: &[i64], classes: &[String]) -> Result<(), String> {
    let beyond = |label: &&i64| usize::try_from(**label).is_ok_and(|label| label >= classes.len());
    match labels.iter().find(beyond) {
        None => Ok(()),
        Some(label) => Err(format!(
            "a row has the label {label}, and there are {} classes, numbered from 0",
            classes.len()
        )),
    }
}
