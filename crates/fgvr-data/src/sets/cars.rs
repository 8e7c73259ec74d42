//! Stanford Cars: photos of cars with a box, in MAT-files.

use super::boxes::{BoundingBox, Bounds};
use super::index::{Entry, Files, Index, MatFile, Parts, element};
use super::mat::Array;
use crate::{Error, Split};

const LIST: &str = "annotations";
const EDGES: [&str; 4] = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"];

pub(super) fn index(files: &Files<'_>) -> Result<Index, Error> {
    if files.has("cars_annos.mat") && !files.has("cars_train") {
        let list = files.mat("cars_annos.mat")?;
        let classes: Vec<String> = owned(&list.texts("class_names")?);
        let entries = read(&list, classes.len(), "relative_im_path", "", None)?;
        return Ok(Index::new(classes, entries));
    }
    // In the devkit, or beside the images.
    let find = |name: &str| {
        let inside = format!("devkit/{name}");
        if files.has(&inside) {
            inside
        } else {
            name.to_owned()
        }
    };
    let classes = files.mat(&find("cars_meta.mat"))?;
    let classes = owned(&classes.texts("class_names")?);
    let train = files.mat(&find("cars_train_annos.mat"))?;
    let mut entries = read(
        &train,
        classes.len(),
        "fname",
        "cars_train/",
        Some(Split::Train),
    )?;
    let labelled = find("cars_test_annos_withlabels.mat");
    let has_labels = files.has(&labelled);
    let test = match has_labels {
        true => files.mat(&labelled)?,
        false => files.mat(&find("cars_test_annos.mat"))?,
    };
    // The list without labels has no field `class`.
    let of = if has_labels { classes.len() } else { 0 };
    entries.extend(read(&test, of, "fname", "cars_test/", Some(Split::Test))?);
    let mut index = Index::new(classes, entries);
    if !has_labels {
        index.notes.push(
            "the test images are without labels: there is cars_test_annos.mat, and no cars_test_annos_withlabels.mat"
                .to_owned(),
        );
    }
    Ok(index)
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The images of one list, without labels where there are no `classes`. Without `split`, the list has it in a field.
fn read(
    list: &MatFile,
    classes: usize,
    path: &str,
    folder: &str,
    split: Option<Split>,
) -> Result<Vec<Entry>, Error> {
    let all = list.structures(LIST)?;
    let field = |name: &str| -> Result<Vec<&Array>, Error> {
        let values = all.field(name).map(Iterator::collect);
        values.ok_or_else(|| list.wrong_at(LIST, 0, format!("expected a field {name}, found none")))
    };
    let number = |name: &str, index: usize, value: &Array| match value {
        Array::Numbers(values) if values.len() == 1 => Ok(values[0]),
        _ => Err(list.wrong_at(LIST, index, format!("expected one number as {name}"))),
    };
    let paths = field(path)?;
    let classes_of = match classes {
        0 => None,
        _ => Some(field("class")?),
    };
    let tests = match split {
        Some(_) => None,
        None => Some(field("test")?),
    };
    let edges = [
        field(EDGES[0])?,
        field(EDGES[1])?,
        field(EDGES[2])?,
        field(EDGES[3])?,
    ];
    let mut entries = Vec::with_capacity(paths.len());
    for (index, value) in paths.into_iter().enumerate() {
        let Array::Text(name) = value else {
            return Err(list.wrong_at(LIST, index, format!("expected text as {path}")));
        };
        let mut sides = [0.; 4];
        for ((side, name), values) in sides.iter_mut().zip(EDGES).zip(&edges) {
            *side = number(name, index, values[index])?;
        }
        let bounds =
            BoundingBox::of_pixels(sides).map_err(|problem| list.wrong_at(LIST, index, problem))?;
        let label = match &classes_of {
            None => None,
            Some(values) => {
                let class = number("class", index, values[index])?;
                Some(list.label(LIST, index, class, classes)?)
            }
        };
        let split = match (&tests, split) {
            (Some(tests), _) => match number("test", index, tests[index])? {
                0. => Split::Train,
                1. => Split::Test,
                other => {
                    let problem = format!("expected 0 or 1 as test, found {other}");
                    return Err(list.wrong_at(LIST, index, problem));
                }
            },
            (None, split) => split.unwrap_or(Split::Train),
        };
        entries.push(Entry {
            path: format!("{folder}{name}"),
            split,
            label,
            bounds: Some(Bounds::Known {
                bounds,
                file: list.file.clone(),
                place: element(LIST, index),
            }),
            parts: Parts::None,
            file: list.file.clone(),
            place: element(LIST, index),
        });
    }
    Ok(entries)
}
