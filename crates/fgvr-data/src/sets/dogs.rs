//! Stanford Dogs: photos of dogs, with lists in MAT-files and boxes in XML.

use super::boxes::Bounds;
use super::index::{Entry, Files, Index, Parts, element};
use crate::{Error, Split};

const LISTS: [(&str, Split); 2] = [
    ("train_list.mat", Split::Train),
    ("test_list.mat", Split::Test),
];

pub(super) fn index(files: &Files<'_>) -> Result<Index, Error> {
    let mut entries = Vec::new();
    let mut folders: Vec<Option<String>> = Vec::new();
    let mut last = None;
    for (name, split) in LISTS {
        let list = files.mat(name)?;
        let images = list.texts("file_list")?;
        let annotations = list.texts("annotation_list")?;
        let labels = list.numbers("labels")?;
        for (name, count) in [
            ("annotation_list", annotations.len()),
            ("labels", labels.len()),
        ] {
            if count != images.len() {
                let problem = format!("expected {} as in file_list, found {count}", images.len());
                return Err(list.wrong_at(name, count.min(images.len()), problem));
            }
        }
        for (index, image) in images.iter().enumerate() {
            let wrong = |problem| list.wrong_at("file_list", index, problem);
            let Some((folder, _)) = image.split_once('/') else {
                return Err(wrong(format!("expected FOLDER/IMAGE, found {image}")));
            };
            let annotation = annotations[index];
            if image.rsplit_once('.').map(|(stem, _)| stem) != Some(annotation) {
                return Err(wrong(format!(
                    "image {image} has the annotation {annotation} of another"
                )));
            }
            let most = images.len().max(folders.len());
            let label = list.label("labels", index, labels[index], most)?;
            if folders.len() <= label as usize {
                folders.resize(label as usize + 1, None);
            }
            let is = folders[label as usize].get_or_insert_with(|| folder.to_owned());
            if is != folder {
                let class = label + 1;
                return Err(wrong(format!(
                    "image {image} is of class {class}, which is {is} elsewhere"
                )));
            }
            entries.push(Entry {
                path: format!("Images/{image}"),
                split,
                label: Some(label),
                bounds: Some(Bounds::Xml {
                    path: format!("Annotation/{annotation}"),
                    counts_from_one: false,
                }),
                parts: Parts::None,
                file: list.file.clone(),
                place: element("file_list", index),
            });
        }
        last = Some(list);
    }
    let count = folders.len();
    let mut classes = Vec::with_capacity(count);
    for (index, folder) in folders.into_iter().enumerate() {
        match (folder, &last) {
            // n02085620-Chihuahua: the synset of WordNet, and the name.
            (Some(folder), _) => classes.push(match folder.split_once('-') {
                Some((_, name)) => name.to_owned(),
                None => folder,
            }),
            (None, Some(list)) => {
                let problem = format!(
                    "expected images of all classes up to {count}, found none of class {}",
                    index + 1
                );
                return Err(list.wrong_at("labels", 0, problem));
            }
            (None, None) => {}
        }
    }
    Ok(Index::new(classes, entries))
}
