//! What loading did, by name.

use std::collections::BTreeMap;
use std::fmt;

use super::FileInfo;
use super::preprocessing::Preprocessing;
use crate::Error;

/// Columns of the tables for people.
pub(crate) const COLUMNS: usize = 100;

/// A tensor left aside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Ignored {
    /// Its name in the file.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A tensor that was brought to another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Reshaped {
    /// The variable.
    pub name: String,
    /// The shape in the file.
    pub from: Vec<usize>,
    /// The variable's.
    pub to: Vec<usize>,
    /// What was done.
    pub how: String,
}

/// What [`load`](super::load) did. Shown, it is a table of at most 100 columns.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LoadReport {
    /// The source, as it was given.
    pub from: String,
    /// The files, with their lengths and hashes.
    pub files: Vec<FileInfo>,
    /// Who named the tensors, and under which prefix.
    pub layout: String,
    /// What stood before the names.
    pub prefix: String,
    /// The network that the weights are of, as far as their shapes show.
    pub architecture: Option<String>,
    /// Variables that were set.
    pub loaded: Vec<String>,
    /// Variables that the weights lack, or have in another shape, and that were allowed to: they
    /// keep their values.
    pub missing: Vec<String>,
    /// Tensors of the trunk that no variable has the name of, and that were allowed to be left over.
    pub unexpected: Vec<String>,
    /// Tensors that are no part of a trunk: heads, counters, other networks in the same file.
    pub ignored: Vec<Ignored>,
    /// Variables whose values were brought to another shape.
    pub reshaped: Vec<Reshaped>,
    /// How images are made ready.
    pub preprocessing: Preprocessing,
    /// Where that is from.
    pub preprocessing_from: String,
    /// The notes in safetensors headers.
    pub metadata: BTreeMap<String, String>,
    /// Keys of `config.json` of which it is not known whether they change what the network computes.
    pub not_looked_at: Vec<String>,
    /// What else one should know.
    pub notes: Vec<String>,
}

impl LoadReport {
    /// This report, if every variable was set and nothing was left over.
    ///
    /// # Errors
    /// [`Error::Incomplete`].
    pub fn strict(self) -> Result<Self, Error> {
        if self.missing.is_empty() && self.unexpected.is_empty() {
            return Ok(self);
        }
        Err(Error::Incomplete {
            from: self.from,
            missing: self.missing,
            unexpected: self.unexpected,
        })
    }
}

impl fmt::Display for LoadReport {
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
        row(f, "names", &self.layout)?;
        if let Some(architecture) = &self.architecture {
            row(f, "network", architecture)?;
        }
        row(f, "loaded", &format!("{} variables", self.loaded.len()))?;
        names(f, "missing", &self.missing)?;
        names(f, "unexpected", &self.unexpected)?;
        let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ignored in &self.ignored {
            let names = by_reason.entry(&ignored.reason).or_default();
            names.push(ignored.name.clone());
        }
        for (reason, list) in by_reason {
            names(f, "ignored", &list)?;
            row(f, "", &format!("  ({reason})"))?;
        }
        for Reshaped {
            name,
            from,
            to,
            how,
        } in &self.reshaped
        {
            row(f, "reshaped", &format!("{name}: {from:?} to {to:?}"))?;
            row(f, "", &format!("  ({how})"))?;
        }
        row(f, "images", &self.preprocessing.to_string())?;
        row(f, "", &format!("  ({})", self.preprocessing_from))?;
        not_looked_at(f, &self.not_looked_at)?;
        for note in &self.notes {
            row(f, "note", note)?;
        }
        Ok(())
    }
}

/// A line of a table with a label, folded to [`COLUMNS`].
pub(crate) fn row(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    const LABEL: usize = 12;
    let mut label = label;
    let mut line = String::new();
    // Names come from files: what is not printable must not reach a terminal.
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    for word in text.split_inclusive(' ') {
        let mut word = word;
        if line.chars().count() + word.trim_end().chars().count() > COLUMNS - LABEL {
            // An indentation alone makes no line; it gives way to the word.
            if !line.trim().is_empty() {
                writeln!(f, "{label:<LABEL$}{}", line.trim_end())?;
                label = "";
            }
            line.clear();
        }
        // A word longer than a line, such as a path, is cut where the line ends.
        while word.chars().count() > COLUMNS - LABEL {
            let cut = word
                .char_indices()
                .nth(COLUMNS - LABEL)
                .map_or(word.len(), |(at, _)| at);
            writeln!(f, "{label:<LABEL$}{}", &word[..cut])?;
            label = "";
            word = &word[cut..];
        }
        line.push_str(word);
    }
    writeln!(f, "{label:<LABEL$}{}", line.trim_end())
}

/// The keys of a configuration that nobody here knows.
pub(crate) fn not_looked_at(f: &mut fmt::Formatter<'_>, keys: &[String]) -> fmt::Result {
    match keys {
        [] => Ok(()),
        keys => row(f, "config", &format!("not looked at: {}", keys.join(", "))),
    }
}

/// How many names, and the first of them.
fn names(f: &mut fmt::Formatter<'_>, label: &str, names: &[String]) -> fmt::Result {
    const SHOWN: usize = 4;
    let shown = names
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match (names.len(), names.len().saturating_sub(SHOWN)) {
        (0, _) => row(f, label, "0"),
        (count, 0) => row(f, label, &format!("{count}: {shown}")),
        (count, _) => row(f, label, &format!("{count}: {shown}, ...")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(String);

    impl fmt::Display for Row {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            row(f, "label", &self.0)
        }
    }

    #[test]
    fn no_row_is_wider_than_the_table_whatever_its_words() {
        for length in 1..200 {
            for text in [
                format!("  ({})", "x".repeat(length)),
                format!("a {} b", "x".repeat(length)),
                "word ".repeat(length),
            ] {
                let shown = Row(text.clone()).to_string();
                let widest = shown.lines().map(|line| line.chars().count()).max();
                assert!(widest <= Some(COLUMNS), "{text:?}: {shown}");
                let letters = |text: &str| text.chars().filter(|c| *c == 'x').count();
                assert_eq!(letters(&shown), letters(&text));
            }
        }
    }
}
