//! What was found where a data set was opened: what is used, and what is not.

use std::collections::BTreeMap;
use std::fmt;

use crate::shown;

/// Kinds that the line names; the rest is counted together.
const NAMED: usize = 8;

/// Kinds that are more than an ending or a name, one and many.
const PHRASES: &[(&str, &str)] = &[
    ("copy", "copies"),
    ("thumbnail", "thumbnails"),
    ("run of fgvr", "runs of fgvr"),
    ("export of fgvr", "exports of fgvr"),
    ("link to nothing", "links to nothing"),
    ("link to a folder above", "links to folders above"),
    (
        "link to a folder that is read already",
        "links to folders that are read already",
    ),
    ("pipe, socket or device", "pipes, sockets and devices"),
];

/// Photos named one by one; the rest is counted together.
const LISTED: usize = 5;

/// What was found where a data set was opened. Its text is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Found {
    /// What was opened.
    pub source: String,
    /// The known set that it is, with what is to be said of it; `None` for a built-in set and folders of photos.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub set: Option<String>,
    /// Images to train on, to validate on and to test on.
    pub images: SplitCounts,
    /// Which splits were held out of other images by a hash of their names, rather than said by the data.
    pub held_out: HeldOut,
    /// Classes of all of them; 0 without labels.
    pub classes: usize,
    /// Files and folders passed over, by kind: an ending such as `.heic`, the name of a system's own
    /// folder such as `@eaDir`, `hidden`, and the like. A folder counts once, whatever it holds.
    pub passed_over: BTreeMap<String, usize>,
    /// Photos that lie in no class folder beside class folders, by their ids.
    pub left_out: Vec<String>,
    /// Folders that cannot be read.
    pub unreadable: Vec<UnreadableFolder>,
    /// What else a person should know, each a line.
    pub notes: Vec<String>,
}

/// How many images each split has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SplitCounts {
    /// To train on.
    pub train: usize,
    /// To validate on.
    pub val: usize,
    /// To test on; `None` without such a split.
    pub test: Option<usize>,
}

/// Splits that the data does not say itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HeldOut {
    /// What is validated on.
    pub val: bool,
    /// What is tested on.
    pub test: bool,
}

/// A folder that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct UnreadableFolder {
    /// Its path from the folder that was opened, as an id.
    pub path: String,
    /// Why it cannot be read.
    pub reason: String,
}

impl Found {
    /// What a person should know besides the line of [`Found`] itself: what is left out, by name,
    /// and why there are no labels where there might be. Each is one line.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .unreadable
            .iter()
            .map(|folder| {
                let (path, reason) = (shown(&folder.path), shown(&folder.reason));
                format!("left out: the folder {path}, which cannot be read ({reason})")
            })
            .collect();
        if !self.left_out.is_empty() {
            let (names, verb) = match &self.left_out[..] {
                [one] => (shown(one).into_owned(), "lies"),
                many => (listed(many), "lie"),
            };
            lines.push(format!(
                "left out: {names}, which {verb} in no class folder"
            ));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }

    /// The line, and the [`messages`](Self::messages) as warnings below it.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let messages = self.messages().into_iter();
        let warnings = messages.map(|message| format!("warning: data: {message}"));
        std::iter::once(self.to_string()).chain(warnings).collect()
    }

    /// Counts something that is passed over.
    pub(crate) fn pass(&mut self, kind: impl Into<String>) {
        *self.passed_over.entry(kind.into()).or_default() += 1;
    }

    /// What was passed over and left out, as an error tells it; empty without any.
    pub(crate) fn unused(&self) -> String {
        let mut parts = Vec::new();
        if !self.passed_over.is_empty() {
            parts.push(format!("passed over: {}", self.kinds()));
        }
        if let Some(first) = self.unreadable.first() {
            let first = format!("{} ({})", shown(&first.path), shown(&first.reason));
            parts.push(match self.unreadable.len() {
                1 => format!("cannot be read: {first}"),
                n => format!("{n} folders cannot be read, the first {first}"),
            });
        }
        parts.join("; ")
    }

    /// The kinds that were passed over with their counts, most first.
    fn kinds(&self) -> String {
        let mut kinds: Vec<(&String, &usize)> = self.passed_over.iter().collect();
        kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), *kind));
        let rest: usize = kinds.iter().skip(NAMED).map(|(_, count)| **count).sum();
        let named = kinds.iter().take(NAMED);
        let mut texts: Vec<String> = named
            .map(|(kind, count)| format!("{count} {}", shown(plural(kind, **count))))
            .collect();
        if rest > 0 {
            texts.push(format!("{rest} of {} more kinds", kinds.len() - NAMED));
        }
        texts.join(", ")
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SplitCounts { train, val, test } = self.images;
        let all = train + val + test.unwrap_or(0);
        let source = shown(&self.source);
        write!(f, "{source}: ")?;
        if let Some(set) = &self.set {
            write!(f, "{}; ", shown(set))?;
        }
        write!(f, "{}", counted(all, "image", "images"))?;
        match self.classes {
            0 => write!(f, " without labels")?,
            n => write!(f, " in {}", counted(n, "class", "classes"))?,
        }
        write!(f, " ({train} to train on, {val} to validate, ")?;
        match test {
            Some(test) => write!(f, "{test} to test)")?,
            None => write!(f, "none to test)")?,
        }
        if self.passed_over.is_empty() {
            // A known set is its lists; what else lies there was not looked at.
            if self.set.is_none() {
                write!(f, "; nothing passed over")?;
            }
        } else {
            write!(f, "; passed over: {}", self.kinds())?;
        }
        if !self.left_out.is_empty() {
            let images = counted(self.left_out.len(), "image", "images");
            write!(f, "; left out: {images} in no class folder")?;
        }
        if !self.unreadable.is_empty() {
            let folders = counted(self.unreadable.len(), "folder", "folders");
            write!(f, "; cannot be read: {folders}")?;
        }
        Ok(())
    }
}

/// A kind as it stands behind its count.
fn plural(kind: &str, count: usize) -> &str {
    let phrase = PHRASES.iter().find(|(one, _)| count != 1 && *one == kind);
    phrase.map_or(kind, |(_, many)| many)
}

/// `1 image`, `2 images`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The first few of `names`, as they can be printed, and how many more there are.
pub(crate) fn listed(names: &[String]) -> String {
    let first: Vec<_> = names.iter().take(LISTED).map(|name| shown(name)).collect();
    match names.len().saturating_sub(LISTED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_what_is_used_and_what_is_not() {
        let mut found = Found {
            source: "photos".to_owned(),
            images: SplitCounts {
                train: 35,
                val: 4,
                test: Some(9),
            },
            classes: 4,
            ..Found::default()
        };
        assert_eq!(
            found.to_string(),
            "photos: 48 images in 4 classes (35 to train on, 4 to validate, 9 to test); nothing passed over"
        );
        assert!(found.messages().is_empty());
        for kind in [".heic", ".heic", "@eaDir", ".heic"] {
            found.pass(kind);
        }
        found.left_out = (0..7).map(|i| format!("cover\n{i}.jpg")).collect();
        found.unreadable.push(UnreadableFolder {
            path: "lost+found".to_owned(),
            reason: "Permission denied".to_owned(),
        });
        (found.classes, found.images.test) = (0, None);
        assert_eq!(
            found.to_string(),
            "photos: 39 images without labels (35 to train on, 4 to validate, none to test); passed over: \
             3 .heic, 1 @eaDir; left out: 7 images in no class folder; cannot be read: 1 folder"
        );
        assert_eq!(
            found.messages(),
            [
                "left out: the folder lost+found, which cannot be read (Permission denied)",
                r"left out: cover\n0.jpg, cover\n1.jpg, cover\n2.jpg, cover\n3.jpg, cover\n4.jpg and 2 more, which lie in no class folder",
            ]
        );
    }

    #[test]
    fn rare_kinds_are_counted_together() {
        let mut found = Found::default();
        for kind in 0..20 {
            for _ in kind..20 {
                found.pass(format!(".k{kind:02}"));
            }
        }
        let line = found.to_string();
        assert!(line.contains("passed over: 20 .k00, 19 .k01"), "{line}");
        assert!(line.ends_with("13 .k07, 78 of 12 more kinds"), "{line}");
    }
}
