//! Classes of shards: numbers in the samples, and names in `classes.txt` beside the shards.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::index::NO_CLASS;
use super::{Row, Shard, ShardProblem};
use crate::name::class_name;
use crate::{Error, Labels};

/// The file of names, one a line.
pub(super) const NAMES: &str = "classes.txt";

/// The longest such file, in bytes.
const LONGEST: u64 = 16 << 20;

/// The names in `classes.txt` of `folder`; `None` where there is no such file.
///
/// # Errors
/// A file that cannot be read, is no text, or has an empty line or a name twice.
pub(super) fn named(folder: &Path) -> Result<Option<Vec<String>>, Error> {
    let path = folder.join(NAMES);
    let io = |source| Error::Io {
        path: path.clone(),
        source,
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io)?,
    };
    let mut text = String::new();
    let read = file
        .take(LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(io)?;
    if read as u64 > LONGEST {
        return Err(Error::TooLarge {
            path,
            what: "the file's length in bytes",
            found: read as u64,
            most: LONGEST,
        });
    }
    let text = text.trim_start_matches('\u{feff}').trim_end();
    let names: Vec<String> = text
        .lines()
        .map(|line| class_name(line.trim()).into_owned())
        .collect();
    let mut seen = BTreeSet::new();
    for (line, name) in (1..).zip(&names) {
        let problem = match name.as_str() {
            "" => format!(
                "line {line} is empty, expected the name of class {}",
                line - 1
            ),
            name if !seen.insert(name) => format!("line {line} names {name} again"),
            _ => continue,
        };
        return Err(Error::Layout { path, problem });
    }
    Ok(Some(names))
}

/// Whether the images `rows` of `shards` have classes.
///
/// # Errors
/// [`Error::Shard`] where only some have, or none does and `labels` asks for some.
pub(super) fn labelled(shards: &[Shard], rows: &[Row], labels: Labels) -> Result<bool, Error> {
    let class = |row: &&Row| class_of(shards, **row) == NO_CLASS;
    let without = rows.iter().filter(class).count();
    if labels == Labels::None || (without == rows.len() && labels == Labels::Auto) {
        return Ok(false);
    }
    let Some(first) = rows.iter().find(class) else {
        return Ok(!rows.is_empty());
    };
    let (shard, image) = (&shards[first.shard as usize], first.image as usize);
    Err(Error::Shard {
        path: shard.path.clone(),
        offset: shard.index.place(image).map_or(0, |(offset, _)| offset),
        member: Some(shard.index.name(image).to_owned()),
        problem: ShardProblem::SomeWithoutClass {
            without,
            all: rows.len(),
        },
    })
}

/// Gives the images of all `parts` their labels, and returns the names of the classes. Without `names`, the numbers that
/// occur are classes, in their order.
///
/// # Errors
/// [`Error::Shard`] for a number that has no name.
pub(super) fn label(
    shards: &[Shard],
    parts: &mut [&mut Vec<Row>],
    names: Option<Vec<String>>,
) -> Result<Vec<String>, Error> {
    let Some(names) = names else {
        let rows = parts.iter().flat_map(|rows| rows.iter());
        let numbers: BTreeSet<u32> = rows.map(|row| class_of(shards, *row)).collect();
        let numbers: Vec<u32> = numbers.into_iter().collect();
        for row in parts.iter_mut().flat_map(|rows| rows.iter_mut()) {
            let position = numbers.binary_search(&class_of(shards, *row));
            row.label = position
                .ok()
                .and_then(|position| u32::try_from(position).ok());
        }
        return Ok(numbers.iter().map(u32::to_string).collect());
    };
    for row in parts.iter_mut().flat_map(|rows| rows.iter_mut()) {
        let class = class_of(shards, *row);
        if class as usize >= names.len() {
            let (shard, image) = (&shards[row.shard as usize], row.image as usize);
            return Err(Error::Shard {
                path: shard.path.clone(),
                offset: shard.index.place(image).map_or(0, |(offset, _)| offset),
                member: Some(shard.index.name(image).to_owned()),
                problem: ShardProblem::UnknownClass {
                    class,
                    classes: names.len(),
                },
            });
        }
        row.label = Some(class);
    }
    Ok(names)
}

fn class_of(shards: &[Shard], row: Row) -> u32 {
    let index = &shards[row.shard as usize].index;
    index.images[row.image as usize].class
}
