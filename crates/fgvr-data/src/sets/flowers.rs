//! Oxford Flowers 102: photos of flowers with labels and splits in MAT-files.

use super::index::{Entry, Files, Index, Parts, element};
use crate::{Error, Split};

const SPLITS: [(&str, Split); 3] = [
    ("trnid", Split::Train),
    ("valid", Split::Val),
    ("tstid", Split::Test),
];

pub(super) fn index(files: &Files<'_>) -> Result<Index, Error> {
    let labels_file = files.mat("imagelabels.mat")?;
    let labels = labels_file.numbers("labels")?;
    // Classes have numbers and no names; each has images.
    let mut count = 0;
    for (index, label) in labels.iter().enumerate() {
        let label = labels_file.label("labels", index, *label, labels.len())?;
        count = count.max(label as usize + 1);
    }
    let mut has = vec![false; count];
    labels
        .iter()
        .for_each(|label| has[*label as usize - 1] = true);
    if let Some(lacking) = has.iter().position(|has| !has) {
        let class = lacking + 1;
        let problem =
            format!("expected images of all classes up to {count}, found none of class {class}");
        return Err(labels_file.wrong_at("labels", 0, problem));
    }
    let splits = files.mat("setid.mat")?;
    let mut entries = Vec::with_capacity(labels.len());
    let mut used = vec![false; labels.len()];
    for (name, split) in SPLITS {
        for (index, image) in splits.numbers(name)?.iter().enumerate() {
            let number = splits
                .label(name, index, *image, labels.len())
                .map_err(|_| {
                    let problem = format!(
                        "expected an image from 1 to {}, found {image}",
                        labels.len()
                    );
                    splits.wrong_at(name, index, problem)
                })?;
            used[number as usize] = true;
            entries.push(Entry {
                path: format!("jpg/image_{:05}.jpg", number + 1),
                split,
                label: Some(labels[number as usize] as u32 - 1),
                bounds: None,
                parts: Parts::None,
                file: splits.file.clone(),
                place: element(name, index),
            });
        }
    }
    if let Some(unused) = used.iter().position(|used| !used) {
        let problem = format!("image {} is in no split of setid.mat", unused + 1);
        return Err(labels_file.wrong_at("labels", unused, problem));
    }
    let classes = (1..=count).map(|class| class.to_string()).collect();
    Ok(Index::new(classes, entries))
}
