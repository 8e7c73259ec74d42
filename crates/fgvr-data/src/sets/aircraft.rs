//! FGVC-Aircraft: photos of aircraft at three levels of classes, with a banner at the lower edge.

use std::collections::BTreeMap;

use super::Level;
use super::boxes::BoundingBox;
use super::index::{Entry, Files, Index, Parts};
use super::text::{Line, TextFile};
use crate::{Error, Split};

/// Rows of the copyright banner.
pub(super) const BANNER: usize = 20;

const LEVELS: [Level; 3] = [Level::Variant, Level::Family, Level::Manufacturer];

pub(super) fn index(files: &Files<'_>, level: Level) -> Result<Index, Error> {
    let names = |level: Level| -> Result<Vec<String>, Error> {
        let list = files.text(level.list())?;
        Ok(list.lines().map(|line| line.text.to_owned()).collect())
    };
    let names = [names(LEVELS[0])?, names(LEVELS[1])?, names(LEVELS[2])?];
    let boxes = files.text("images_box.txt")?;
    let mut boxes = boxes.by_first_word()?;
    // What each class of a finer level belongs to, to find lists that disagree.
    let mut above: [BTreeMap<u32, u32>; 2] = [BTreeMap::new(), BTreeMap::new()];
    let mut entries = Vec::new();
    for split in [Split::Train, Split::Val, Split::Test] {
        let list =
            |level: Level| files.text(&format!("images_{}_{}.txt", level.name(), split.name()));
        let lists = [list(LEVELS[0])?, list(LEVELS[1])?, list(LEVELS[2])?];
        let read = [
            lists[0].by_first_word()?,
            lists[1].by_first_word()?,
            lists[2].by_first_word()?,
        ];
        for (list, one) in lists.iter().zip(&read).skip(1) {
            same_images((&lists[0], &read[0]), (list, one))?;
        }
        // In the order of the list.
        for line in lists[LEVELS.iter().position(|one| *one == level).unwrap_or(0)].lines() {
            let (id, _) = line.halves()?;
            let mut labels = [0; 3];
            for ((label, list), names) in labels.iter_mut().zip(&read).zip(&names) {
                let Some((line, name)) = list.get(id) else {
                    return Err(line.wrong(format!("image {id} is not in all lists of its split")));
                };
                *label = label_of(line, name, names)?;
            }
            for (step, above) in above.iter_mut().enumerate() {
                let (fine, coarse) = (labels[step], labels[step + 1]);
                let known = *above.entry(fine).or_insert(coarse);
                if known != coarse {
                    let (line, name) = read[step + 1][id];
                    let (fine, known) = (
                        &names[step][fine as usize],
                        &names[step + 1][known as usize],
                    );
                    return Err(line.wrong(format!(
                        "image {id} of {} {fine} is of {} {name}, others are of {known}",
                        LEVELS[step].name(),
                        LEVELS[step + 1].name()
                    )));
                }
            }
            let bounds = match boxes.remove(id) {
                None => None,
                Some((line, sides)) => {
                    let bounds = BoundingBox::of_pixels(line.numbers::<f64, 4>(sides)?);
                    Some(line.bounds(bounds)?)
                }
            };
            entries.push(Entry {
                path: format!("images/{id}.jpg"),
                split,
                label: Some(labels[level as usize]),
                bounds,
                parts: Parts::None,
                file: line.file.to_owned(),
                place: line.place(),
            });
        }
    }
    if let Some((id, (line, _))) = boxes.first_key_value() {
        return Err(line.wrong(format!("image {id} is in no list of a split")));
    }
    let [variants, families, manufacturers] = names;
    let classes = match level {
        Level::Variant => variants,
        Level::Family => families,
        Level::Manufacturer => manufacturers,
    };
    let mut index = Index::new(classes, entries);
    index.banner = BANNER;
    index.remarks = vec![
        format!("classes by {}", level.name()),
        format!("banner of {BANNER} rows cut off"),
    ];
    Ok(index)
}

fn label_of(line: &Line<'_>, name: &str, names: &[String]) -> Result<u32, Error> {
    let position = names.iter().position(|known| known == name);
    let label = position.and_then(|position| u32::try_from(position).ok());
    label.ok_or_else(|| line.wrong(format!("{name} is not in the list of classes")))
}

type ByImage<'a> = BTreeMap<&'a str, (Line<'a>, &'a str)>;

fn same_images(
    (first, a): (&TextFile, &ByImage<'_>),
    (second, b): (&TextFile, &ByImage<'_>),
) -> Result<(), Error> {
    for (one, other, lacks) in [(a, b, second), (b, a, first)] {
        if let Some((id, (line, _))) = one.iter().find(|(id, _)| !other.contains_key(*id)) {
            let name = lacks.file.file_name().unwrap_or_default().to_string_lossy();
            return Err(line.wrong(format!("image {id} is not in {name}")));
        }
    }
    Ok(())
}
