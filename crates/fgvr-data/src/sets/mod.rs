//! The data sets of the field, read as their archives are laid out: official splits, names of classes, boxes, parts.
//!
//! A set is recognised by its files. Its lists are read whole and held against each other before any image is: what
//! disagrees is an error with file and line. [`mat`] reads the MAT-files of three of them.

mod aircraft;
mod boxes;
mod cars;
mod cub;
mod dogs;
mod flowers;
mod food;
mod index;
mod listed;
pub mod mat;
mod opened;
mod pets;
mod recognise;
mod settings;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

pub use boxes::{BoundingBox, parse_xml};
pub use index::Index;
pub(crate) use opened::open;
pub use settings::{Crop, DataLayout, Level, SetKind};

use crate::Error;
use index::Files;

/// The lists of `set`, from files at hand by their names below the folder of the set; `level` is of FGVC-Aircraft.
///
/// # Errors
/// [`Error::Index`] for a list that is damaged or contradicts another, [`Error::Io`] for one that is not among `files`.
pub fn read_lists(
    set: SetKind,
    files: &BTreeMap<String, Vec<u8>>,
    level: Level,
) -> Result<Index, Error> {
    let files = Files {
        root: Path::new(""),
        memory: Some(files),
    };
    lists(set, &files, level)
}

fn lists(set: SetKind, files: &Files<'_>, level: Level) -> Result<Index, Error> {
    let index = match set {
        SetKind::Cub => cub::index(files),
        SetKind::Cars => cars::index(files),
        SetKind::Aircraft => aircraft::index(files, level),
        SetKind::Pets => pets::index(files),
        SetKind::Flowers => flowers::index(files),
        SetKind::Dogs => dogs::index(files),
        SetKind::Food => food::index(files),
    };
    index?.checked(files.root)
}

#[cfg(test)]
mod tests;
