//! What the lists of a set say: its images with split, class, box and parts.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::boxes::{BoundingBox, Bounds};
use super::mat::{self, Array, Structures};
use super::text::{Line, TextFile, at, leads_out};
use crate::{Error, Split};

/// No list of a known set is a quarter as long.
const LONGEST: u64 = 128 << 20;

/// An image of a set.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Below the folder of the set.
    pub(super) path: String,
    pub(super) split: Split,
    pub(super) label: Option<u32>,
    pub(super) bounds: Option<Bounds>,
    pub(super) parts: Parts,
    /// What names it.
    pub(super) file: PathBuf,
    pub(super) place: String,
}

/// What is known of the parts of an image.
#[derive(Clone, Debug)]
pub(super) enum Parts {
    None,
    /// Discs of one radius around points, in pixels.
    Points {
        points: Vec<[f64; 2]>,
        radius: f64,
    },
    /// A picture of the image's size, below the folder of the set, that is 1 on the foreground.
    Trimap(String),
}

/// The lists of a set, read.
#[derive(Debug)]
pub struct Index {
    pub(super) classes: Vec<String>,
    pub(super) entries: Vec<Entry>,
    /// Rows at the lower edge of each image that are no part of the photo.
    pub(super) banner: usize,
    /// What is said of the set after its name.
    pub(super) remarks: Vec<String>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

impl Index {
    pub(super) fn new(classes: Vec<String>, entries: Vec<Entry>) -> Self {
        Self {
            classes,
            entries,
            banner: 0,
            remarks: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// How many images there are to train, to validate and to test on.
    #[must_use]
    pub fn images(&self) -> [usize; 3] {
        [Split::Train, Split::Val, Split::Test].map(|split| {
            let of = |entry: &&Entry| entry.split == split;
            self.entries.iter().filter(of).count()
        })
    }

    /// The images' paths below the folder of the set, with their labels.
    pub fn paths(&self) -> impl Iterator<Item = (&str, Option<u32>)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.path.as_str(), entry.label))
    }

    /// The names of the classes, by label.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Checks what holds for every set.
    pub(super) fn checked(self, root: &Path) -> Result<Self, Error> {
        let layout = |problem: String| Error::Layout {
            path: root.to_owned(),
            problem,
        };
        let mut names = HashMap::new();
        for (label, class) in self.classes.iter().enumerate() {
            if let Some(other) = names.insert(class, label) {
                let (first, second) = (other + 1, label + 1);
                let class = crate::shown(class);
                return Err(layout(format!(
                    "classes {first} and {second} are both called {class}"
                )));
            }
        }
        let mut seen: HashMap<&str, &Entry> = HashMap::new();
        for entry in &self.entries {
            let wrong = |problem| Err(at(&entry.file, entry.place.clone(), problem));
            if let Some(problem) = leads_out(&entry.path) {
                return wrong(problem);
            }
            if entry
                .label
                .is_some_and(|label| label as usize >= self.classes.len())
            {
                return wrong(format!("expected one of {} classes", self.classes.len()));
            }
            if let Some(first) = seen.insert(&entry.path, entry) {
                let (split, other) = (entry.split.name(), first.split.name());
                let path = &entry.path;
                return wrong(match split == other {
                    true => format!(
                        "{path} stands in {split} a second time (first: {})",
                        first.place
                    ),
                    false => format!("{path} stands in {other} and in {split}"),
                });
            }
        }
        if self.images()[0] == 0 {
            return Err(layout("the lists name no image to train on".to_owned()));
        }
        Ok(self)
    }
}

/// The files of a set's folder, or such at hand.
pub(super) struct Files<'a> {
    pub(super) root: &'a Path,
    pub(super) memory: Option<&'a BTreeMap<String, Vec<u8>>>,
}

impl Files<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        match self.memory {
            Some(files) => files.contains_key(name),
            None => self.root.join(name).exists(),
        }
    }

    fn bytes(&self, name: &str) -> Result<(PathBuf, Vec<u8>), Error> {
        let path = self.root.join(name);
        if let Some(files) = self.memory {
            let bytes = files.get(name).cloned();
            return match bytes {
                Some(bytes) => Ok((path, bytes)),
                None => Err(Error::Io {
                    path,
                    source: std::io::ErrorKind::NotFound.into(),
                }),
            };
        }
        let mut bytes = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
        match read {
            Err(source) => Err(Error::Io { path, source }),
            Ok(length) if length as u64 > LONGEST => Err(Error::TooLarge {
                path,
                what: "the list's length in bytes",
                found: length as u64,
                most: LONGEST,
            }),
            Ok(_) => Ok((path, bytes)),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<TextFile, Error> {
        let (file, bytes) = self.bytes(name)?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(TextFile { file, text }),
            Err(e) => {
                let valid = e.utf8_error().valid_up_to();
                let lines = e.as_bytes()[..valid]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count();
                let place = format!("line {}", lines + 1);
                Err(at(
                    &file,
                    place,
                    "expected text in UTF-8, found other bytes".to_owned(),
                ))
            }
        }
    }

    pub(super) fn mat(&self, name: &str) -> Result<MatFile, Error> {
        let (file, bytes) = self.bytes(name)?;
        let variables = mat::parse(&file, &bytes)?;
        let variables = variables.into_iter().map(|v| (v.name, v.value)).collect();
        Ok(MatFile { file, variables })
    }
}

/// The variables of a MAT-file.
pub(super) struct MatFile {
    pub(super) file: PathBuf,
    variables: BTreeMap<String, Array>,
}

impl MatFile {
    fn wrong(&self, name: &str, expected: &str) -> Error {
        let found = match self.variables.get(name) {
            None => "none",
            Some(Array::Numbers(_)) => "numbers",
            Some(Array::Text(_)) => "text",
            Some(Array::Cells(_)) => "cells",
            Some(Array::Structures(_)) => "structures",
            Some(Array::Other) => "an array of a kind that is not read",
        };
        let problem = format!("expected {expected}, found {found}");
        at(&self.file, format!("variable {name}"), problem)
    }

    /// An error at element `index`, counted from 0, of variable `name`.
    pub(super) fn wrong_at(&self, name: &str, index: usize, problem: String) -> Error {
        at(&self.file, element(name, index), problem)
    }

    pub(super) fn numbers(&self, name: &str) -> Result<&[f64], Error> {
        match self.variables.get(name) {
            Some(Array::Numbers(values)) => Ok(values),
            _ => Err(self.wrong(name, "numbers")),
        }
    }

    pub(super) fn structures(&self, name: &str) -> Result<&Structures, Error> {
        match self.variables.get(name) {
            Some(Array::Structures(structures)) => Ok(structures),
            _ => Err(self.wrong(name, "structures")),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<&str>, Error> {
        let Some(Array::Cells(cells)) = self.variables.get(name) else {
            return Err(self.wrong(name, "cells"));
        };
        let texts = cells.iter().enumerate();
        texts
            .map(|(index, cell)| match cell {
                Array::Text(text) => Ok(text.as_str()),
                _ => {
                    Err(self.wrong_at(name, index, "expected text, found another kind".to_owned()))
                }
            })
            .collect()
    }

    /// The label that the number `class`, counted from 1, stands for among `classes`.
    pub(super) fn label(
        &self,
        name: &str,
        index: usize,
        class: f64,
        classes: usize,
    ) -> Result<u32, Error> {
        match class.fract() == 0. && class >= 1. && class <= classes as f64 {
            true => Ok(class as u32 - 1),
            false => {
                let problem = format!("expected a class from 1 to {classes}, found {class}");
                Err(self.wrong_at(name, index, problem))
            }
        }
    }
}

/// The place of an element, counted from 1 as in MATLAB.
pub(super) fn element(name: &str, index: usize) -> String {
    format!("{name}({})", index + 1)
}

impl Line<'_> {
    /// The label that the number `text`, counted from 1, stands for among `classes`.
    pub(super) fn label(&self, text: &str, classes: usize) -> Result<u32, Error> {
        match text.parse::<u32>() {
            Ok(class) if class >= 1 && class as usize <= classes => Ok(class - 1),
            _ => Err(self.wrong(format!(
                "expected a class from 1 to {classes}, found {text}"
            ))),
        }
    }

    pub(super) fn bounds(&self, bounds: Result<BoundingBox, String>) -> Result<Bounds, Error> {
        Ok(Bounds::Known {
            bounds: bounds.map_err(|problem| self.wrong(problem))?,
            file: self.file.to_owned(),
            place: self.place(),
        })
    }
}
