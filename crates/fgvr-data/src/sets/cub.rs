//! CUB-200-2011: photos of birds with a box and 15 points.

use std::collections::BTreeMap;

use super::boxes::BoundingBox;
use super::index::{Entry, Files, Index, Parts};
use crate::{Error, Split};

/// Radius of the disc around a point, as a share of the shorter side of the bird's box.
pub(super) const RADIUS: f64 = 0.1;

pub(super) fn index(files: &Files<'_>) -> Result<Index, Error> {
    let [images, labels, splits, classes, boxes, parts, points] = [
        "images.txt",
        "image_class_labels.txt",
        "train_test_split.txt",
        "classes.txt",
        "bounding_boxes.txt",
        "parts/parts.txt",
        "parts/part_locs.txt",
    ]
    .map(|name| files.text(name));
    let (images, classes, parts, points) = (images?, classes?, parts?, points?);
    let ids = images.by_first_word()?;
    let mut names = Vec::new();
    for line in classes.lines() {
        let (number, name) = line.halves()?;
        if number.parse() != Ok(names.len() + 1) {
            let expected = names.len() + 1;
            return Err(line.wrong(format!("expected class {expected}, found {number}")));
        }
        names.push(name.to_owned());
    }
    let (labels, splits, boxes) = (labels?, splits?, boxes?);
    let [labels, splits, boxes] = [&labels, &splits, &boxes].map(|list| {
        let map = list.by_first_word()?;
        // The same images, no more and no fewer.
        if let Some((id, (line, _))) = map.iter().find(|(id, _)| !ids.contains_key(*id)) {
            return Err(line.wrong(format!("image {id} is not in images.txt")));
        }
        if let Some((id, (line, _))) = ids.iter().find(|(id, _)| !map.contains_key(*id)) {
            let name = list.file.file_name().unwrap_or_default().to_string_lossy();
            return Err(line.wrong(format!("image {id} is not in {name}")));
        }
        Ok(map)
    });
    let (labels, splits, boxes) = (labels?, splits?, boxes?);
    let kinds = parts.by_first_word()?;
    let mut visible: BTreeMap<&str, Vec<[f64; 2]>> = BTreeMap::new();
    for line in points.lines() {
        let (id, rest) = line.halves()?;
        let (part, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if !ids.contains_key(id) {
            return Err(line.wrong(format!("image {id} is not in images.txt")));
        }
        if !kinds.contains_key(part) {
            return Err(line.wrong(format!("part {part} is not in parts.txt")));
        }
        let [x, y, seen] = line.numbers::<f64, 3>(rest)?;
        if !(x.is_finite() && y.is_finite()) || (seen != 0. && seen != 1.) {
            return Err(line.wrong(format!(
                "expected a finite point that is seen (1) or not (0), found {rest}"
            )));
        }
        if seen == 1. {
            visible.entry(id).or_default().push([x, y]);
        }
    }
    // In the order of images.txt, not of the ids as text.
    let mut entries = Vec::with_capacity(ids.len());
    for line in images.lines() {
        let (id, path) = line.halves()?;
        let (Some((class, label)), Some((split_line, split)), Some((box_line, sides))) =
            (labels.get(id), splits.get(id), boxes.get(id))
        else {
            return Err(line.wrong(format!("image {id} lacks a class, a split or a box")));
        };
        let split = match *split {
            "1" => Split::Train,
            "0" => Split::Test,
            other => {
                return Err(
                    split_line.wrong(format!("expected 1 (train) or 0 (test), found {other}"))
                );
            }
        };
        let [x, y, width, height] = box_line.numbers::<f64, 4>(sides)?;
        let bounds = BoundingBox::of([x, y, x + width, y + height]);
        let shorter = bounds.as_ref().map_or(0., BoundingBox::shorter);
        entries.push(Entry {
            path: format!("images/{path}"),
            split,
            label: Some(class.label(label, names.len())?),
            bounds: Some(box_line.bounds(bounds)?),
            parts: Parts::Points {
                points: visible.remove(id).unwrap_or_default(),
                radius: RADIUS * shorter,
            },
            file: line.file.to_owned(),
            place: line.place(),
        });
    }
    Ok(Index::new(names, entries))
}
