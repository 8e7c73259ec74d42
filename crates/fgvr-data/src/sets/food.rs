//! Food-101: photos of dishes in folders, with the split in lists.

use std::collections::HashMap;

use super::index::{Entry, Files, Index, Parts};
use crate::{Error, Split};

pub(super) fn index(files: &Files<'_>) -> Result<Index, Error> {
    let classes = files.text("meta/classes.txt")?;
    let labels = files.text("meta/labels.txt")?;
    let names: Vec<&str> = classes.lines().map(|line| line.text).collect();
    let lines = labels.lines();
    let count = labels.lines().count();
    if count != names.len() {
        let place = format!("line {}", lines.last().map_or(1, |line| line.number));
        let problem = format!(
            "expected {} labels as in classes.txt, found {count}",
            names.len()
        );
        return Err(super::text::at(&labels.file, place, problem));
    }
    let numbers: HashMap<&str, u32> = names.iter().copied().zip(0..).collect();
    let mut entries = Vec::new();
    for (list, split) in [
        ("meta/train.txt", Split::Train),
        ("meta/test.txt", Split::Test),
    ] {
        let list = files.text(list)?;
        for line in list.lines() {
            let class = line.text.split_once('/').map_or("", |(class, _)| class);
            let Some(label) = numbers.get(class) else {
                return Err(line.wrong(format!(
                    "expected CLASS/IMAGE with a class of classes.txt, found {}",
                    line.text
                )));
            };
            entries.push(Entry {
                path: format!("images/{}.jpg", line.text),
                split,
                label: Some(*label),
                bounds: None,
                parts: Parts::None,
                file: line.file.to_owned(),
                place: line.place(),
            });
        }
    }
    let classes = names.into_iter().map(str::to_owned).collect();
    Ok(Index::new(classes, entries))
}
