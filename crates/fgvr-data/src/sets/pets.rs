//! Oxford-IIIT Pets: photos of cats and dogs, with a trimap of each and a box around some heads.

use super::boxes::Bounds;
use super::index::{Entry, Files, Index, Parts};
use super::text::{Line, TextFile};
use crate::{Error, Split};

pub(super) fn index(files: &Files<'_>) -> Result<Index, Error> {
    let all = files.text("annotations/list.txt")?;
    let all = without_comments(all);
    let known = all.by_first_word()?;
    let mut entries: Vec<Entry> = Vec::new();
    // A class is called by what its images are.
    let mut names: Vec<Option<String>> = Vec::new();
    for (list, split) in [("trainval", Split::Train), ("test", Split::Test)] {
        let list = files.text(&format!("annotations/{list}.txt"))?;
        let list = without_comments(list);
        for line in list.lines() {
            let (image, rest) = line.halves()?;
            let class = class(&line, rest)?;
            let Some((there, rest)) = known.get(image) else {
                return Err(line.wrong(format!("image {image} is not in list.txt")));
            };
            let other = self::class(there, rest)?;
            if class != other {
                return Err(line.wrong(format!(
                    "image {image} is of class {class} here, of {other} in list.txt"
                )));
            }
            let name = image.rsplit_once('_').map_or(image, |(name, _)| name);
            if names.len() < class {
                names.resize(class, None);
            }
            let is = names[class - 1].get_or_insert_with(|| name.to_owned());
            if is != name {
                return Err(line.wrong(format!(
                    "image {image} is of class {class}, which is {is} elsewhere"
                )));
            }
            let xml = format!("annotations/xmls/{image}.xml");
            entries.push(Entry {
                path: format!("images/{image}.jpg"),
                split,
                label: u32::try_from(class - 1).ok(),
                bounds: files.has(&xml).then_some(Bounds::Xml {
                    path: xml,
                    counts_from_one: true,
                }),
                parts: Parts::Trimap(format!("annotations/trimaps/{image}.png")),
                file: line.file.to_owned(),
                place: line.place(),
            });
        }
    }
    if entries.len() < known.len() {
        let in_splits: std::collections::BTreeSet<&str> =
            entries.iter().map(|entry| entry.path.as_str()).collect();
        let unused = known
            .iter()
            .find(|(image, _)| !in_splits.contains(format!("images/{image}.jpg").as_str()));
        if let Some((image, (line, _))) = unused {
            return Err(line.wrong(format!(
                "image {image} is in neither trainval.txt nor test.txt"
            )));
        }
    }
    let count = names.len();
    let mut classes = Vec::with_capacity(count);
    for (index, name) in names.into_iter().enumerate() {
        classes.push(name.ok_or_else(|| {
            let number = index + 1;
            super::text::at(
                &all.file,
                "line 1".to_owned(),
                format!(
                    "expected images of all classes up to {count}, found none of class {number}"
                ),
            )
        })?);
    }
    Ok(Index::new(classes, entries))
}

/// With comments as empty lines, so that lines keep their numbers.
fn without_comments(list: TextFile) -> TextFile {
    let lines = list
        .text
        .lines()
        .map(|line| if line.starts_with('#') { "" } else { line });
    TextFile {
        text: lines.collect::<Vec<_>>().join("\n"),
        file: list.file,
    }
}

/// The class, counted from 1; after it stand the species and the breed's number within.
fn class(line: &Line<'_>, rest: &str) -> Result<usize, Error> {
    let [class, _species, _breed] = line.numbers::<u16, 3>(rest)?;
    match class {
        // No set of pets has a thousand breeds: a wrong number is not to make a long list.
        1..1000 => Ok(usize::from(class)),
        _ => Err(line.wrong(format!("expected a class from 1, found {class}"))),
    }
}
