//! Lines, words and numbers of index files, with the place of each in errors.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::{Error, shown};

/// An error at a place in a file.
pub(super) fn at(file: &Path, place: String, problem: String) -> Error {
    Error::Index {
        path: file.to_owned(),
        place,
        problem: shown(&problem).into_owned(),
    }
}

/// A text file of an index.
pub(super) struct TextFile {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

/// A line that is not empty.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) file: &'a Path,
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) text: &'a str,
}

impl TextFile {
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let file = self.file.as_path();
        let lines = self.text.lines().enumerate();
        let lines = lines.map(move |(index, text)| Line {
            file,
            number: index + 1,
            text: text.trim(),
        });
        lines.filter(|line| !line.text.is_empty())
    }

    /// What each line says of the number or name that it begins with, which may stand there once.
    pub(super) fn by_first_word(&self) -> Result<BTreeMap<&str, (Line<'_>, &str)>, Error> {
        let mut map = BTreeMap::new();
        for line in self.lines() {
            let (first, rest) = line.halves()?;
            if map.insert(first, (line, rest)).is_some() {
                return Err(line.wrong(format!("{first} stands here a second time")));
            }
        }
        Ok(map)
    }
}

impl<'a> Line<'a> {
    pub(super) fn wrong(&self, problem: String) -> Error {
        at(self.file, self.place(), problem)
    }

    pub(super) fn place(&self) -> String {
        format!("line {}", self.number)
    }

    /// The first word, and what follows it.
    pub(super) fn halves(&self) -> Result<(&'a str, &'a str), Error> {
        let halves = self.text.split_once(char::is_whitespace);
        let halves = halves.map(|(first, rest)| (first, rest.trim()));
        halves.ok_or_else(|| {
            self.wrong(format!(
                "expected an image or number and something of it, found \"{}\"",
                self.text
            ))
        })
    }

    /// `N` numbers in `text`, a part of the line.
    pub(super) fn numbers<T: FromStr, const N: usize>(&self, text: &str) -> Result<[T; N], Error> {
        let words = text.split_whitespace().map(|word| word.parse().ok());
        let numbers: Option<Vec<T>> = words.collect();
        let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
        numbers.ok_or_else(|| {
            let what = if N == 1 {
                "1 number".to_owned()
            } else {
                format!("{N} numbers")
            };
            self.wrong(format!("expected {what}, found \"{text}\""))
        })
    }
}

/// Why `path`, as an index has it, does not lead to a file below the set's folder; `None` where it does.
pub(super) fn leads_out(path: &str) -> Option<String> {
    let plain = !path.is_empty()
        && !path.contains(['\\', '\0'])
        && !path.split('/').any(|name| matches!(name, "" | "." | ".."))
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    (!plain).then(|| format!("\"{path}\" is no path below the folder of the set"))
}
