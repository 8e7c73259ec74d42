//! What a source of weights holds, for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::aside::aside;
use super::fit::{Fit, Mismatch};
use super::preprocessing::Preprocessing;
use super::report::{not_looked_at, row};
use super::{FileInfo, Weights, tensor};
use crate::Error;

/// Tensors of one module, or of modules that repeat, such as the blocks of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Group {
    /// The name that they share.
    pub name: String,
    /// How many they are.
    pub tensors: usize,
    /// How many values they have together.
    pub values: u64,
    /// Their types.
    pub dtypes: Vec<String>,
    /// The shape of the largest.
    pub largest: Vec<usize>,
}

/// What [`Weights`] hold. Shown, it is a table of at most 100 columns.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Summary {
    /// The source, as it was given.
    pub from: String,
    /// The files, with their lengths and hashes.
    pub files: Vec<FileInfo>,
    /// The notes in safetensors headers.
    pub metadata: BTreeMap<String, String>,
    /// Who named the tensors, and under which prefix.
    pub layout: Option<String>,
    /// Other prefixes that the same network lies under.
    pub others: Vec<String>,
    /// The network, as names and shapes show it.
    pub architecture: Option<String>,
    /// What it is, where it is a network that this crate does not have.
    pub other: Option<String>,
    /// The name that `config.json` gives it.
    pub stated: Option<String>,
    /// All tensors together.
    pub tensors: usize,
    /// All values together.
    pub values: u64,
    /// The tensors by module.
    pub groups: Vec<Group>,
    /// The adaptation of features that comes with them.
    pub adaptation: Option<String>,
    /// How images are made ready.
    pub preprocessing: Preprocessing,
    /// Where that is from.
    pub preprocessing_from: String,
    /// What says that these are not the weights of that network, or of one that computes something else.
    pub mismatches: Vec<Mismatch>,
    /// Keys of `config.json` of which it is not known whether they change what the network computes.
    pub not_looked_at: Vec<String>,
    /// What is wrong with the configuration, if anything.
    pub notes: Vec<String>,
}

impl Weights {
    /// What these weights hold.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (stated, mut notes) = match self.stated_architecture() {
            Ok(stated) => (stated, Vec::new()),
            Err(error) => (None, vec![error.to_string()]),
        };
        let fit = match self.fit() {
            Ok(fit) => fit,
            Err(error) => {
                // Said already, if it is the configuration that cannot be read.
                notes.extend(notes.is_empty().then(|| error.to_string()));
                Fit::default()
            }
        };
        notes.extend(fit.notes);
        let adaptation = match self.adaptation() {
            Ok(adaptation) => adaptation.map(|layer| layer.to_string()),
            Err(error) => {
                let text = error.to_string();
                notes.extend((!notes.contains(&text)).then_some(text));
                None
            }
        };
        let groups = self.groups();
        Summary {
            from: self.origin.clone(),
            files: self.files().cloned().collect(),
            metadata: self.metadata.clone(),
            layout: self.layout(),
            others: self
                .trunk
                .as_ref()
                .map(|trunk| trunk.others.clone())
                .unwrap_or_default(),
            architecture: self.architecture.as_ref().map(ToString::to_string),
            other: self
                .other_family()
                .map(|family| format!("those of {family}, which fgvr does not have")),
            stated,
            tensors: self.tensors.len(),
            values: groups
                .iter()
                .fold(0, |sum, group| sum.saturating_add(group.values)),
            groups,
            adaptation,
            preprocessing: self.preprocessing.clone(),
            preprocessing_from: self.preprocessing_from.clone(),
            mismatches: fit.mismatches,
            not_looked_at: fit.not_looked_at,
            notes,
        }
    }

    /// Whether these are the weights of the network that would be built for them.
    fn fit(&self) -> Result<Fit, Error> {
        let (Some(trunk), Some(found)) = (&self.trunk, &self.architecture) else {
            return Ok(Fit::default());
        };
        let pieces = trunk.pieces.values().flatten();
        let used: BTreeSet<&str> = pieces.map(|piece| piece.name.as_str()).collect();
        let left = |name: &&String| !used.contains(name.as_str()) && aside(name, trunk).is_none();
        let unused: Vec<String> = self.tensors.keys().filter(left).cloned().collect();
        let built = (found, &trunk.shapes(&self.tensors));
        Fit::new(self, trunk, built, self.encoder().as_ref(), &unused)
    }

    fn groups(&self) -> Vec<Group> {
        struct Sum {
            tensors: usize,
            values: u64,
            dtypes: BTreeSet<String>,
            largest: (usize, Vec<usize>),
        }
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for (name, info) in &self.tensors {
            let count = tensor::count(&info.shape).unwrap_or(usize::MAX);
            let sum = sums.entry(group_of(name)).or_insert_with(|| Sum {
                tensors: 0,
                values: 0,
                dtypes: BTreeSet::new(),
                largest: (count, info.shape.clone()),
            });
            sum.tensors += 1;
            sum.values = sum.values.saturating_add(count as u64);
            sum.dtypes.insert(info.dtype.to_string());
            if count > sum.largest.0 {
                sum.largest = (count, info.shape.clone());
            }
        }
        let group = |(name, sum): (&str, Sum)| Group {
            name: name.to_owned(),
            tensors: sum.tensors,
            values: sum.values,
            dtypes: sum.dtypes.into_iter().collect(),
            largest: sum.largest.1,
        };
        sums.into_iter().map(group).collect()
    }
}

/// The module that a tensor belongs to: up to the first number, such as `module.layer1` or
/// `blocks`, or the name without its last part.
fn group_of(name: &str) -> &str {
    let mut at = 0;
    for part in name.split('.') {
        let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if number && at > 0 {
            return &name[..at - 1];
        }
        at += part.len() + 1;
    }
    name.rsplit_once('.').map_or(name, |(module, _)| module)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "weights", &self.from)?;
        for file in &self.files {
            row(f, "file", &file.path.display().to_string())?;
            row(
                f,
                "",
                &format!("{} bytes, SHA-256 {}", file.bytes, file.sha256),
            )?;
        }
        for (key, value) in &self.metadata {
            row(f, "metadata", &format!("{key}: {value}"))?;
        }
        row(
            f,
            "names",
            self.layout
                .as_deref()
                .or(self.other.as_deref())
                .unwrap_or("no trunk of a known network"),
        )?;
        for prefix in &self.others {
            row(f, "also under", &format!("{prefix:?}"))?;
        }
        if let Some(architecture) = &self.architecture {
            row(f, "network", architecture)?;
        }
        if let Some(stated) = &self.stated {
            row(f, "", &format!("config.json says {stated}"))?;
        }
        if let Some(adaptation) = &self.adaptation {
            row(f, "adaptation", adaptation)?;
        }
        row(f, "images", &self.preprocessing.to_string())?;
        row(f, "", &format!("  ({})", self.preprocessing_from))?;
        for mismatch in &self.mismatches {
            row(f, "mismatch", &mismatch.what)?;
        }
        not_looked_at(f, &self.not_looked_at)?;
        for note in &self.notes {
            row(f, "note", note)?;
        }
        row(
            f,
            "tensors",
            &format!("{} of {} values", self.tensors, self.values),
        )?;
        const NAME: usize = 44;
        writeln!(f)?;
        writeln!(
            f,
            "{:<NAME$} {:>7} {:>12}  {:<10} largest",
            "module", "tensors", "values", "types"
        )?;
        for group in &self.groups {
            let Group {
                name,
                tensors,
                values,
                dtypes,
                largest,
            } = group;
            let name: String = name
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            let name = match name.chars().count() {
                count if count > NAME => {
                    let tail: String = name.chars().skip(count + 3 - NAME).collect();
                    format!("...{tail}")
                }
                _ => name,
            };
            let line = format!(
                "{name:<NAME$} {tensors:>7} {values:>12}  {:<10} {largest:?}",
                dtypes.join(" ")
            );
            writeln!(
                f,
                "{}",
                line.chars()
                    .take(super::report::COLUMNS)
                    .collect::<String>()
            )?;
        }
        Ok(())
    }
}
