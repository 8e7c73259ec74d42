//! What the folders around photos say about their classes.

use std::collections::BTreeSet;

use super::{Labels, Photo};
use crate::name::class_name;

/// How photos lie in the folders that may be classes.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Positions of photos in no folder.
    pub(crate) loose: Vec<usize>,
    /// Photos one folder deep.
    direct: usize,
    /// Photos more than one folder deep.
    deep: usize,
    /// Classes with a photo one folder deep.
    direct_classes: BTreeSet<String>,
    /// Classes of all photos that lie in a folder.
    pub(crate) classes: BTreeSet<String>,
}

impl Reading {
    /// Of `photos`, whose class may stand `skip` folders below the one that was opened.
    pub(crate) fn of(photos: &[Photo], skip: usize) -> Self {
        let mut reading = Self::default();
        for (index, photo) in photos.iter().enumerate() {
            let Some((class, file)) = below(&photo.id, skip).split_once('/') else {
                reading.loose.push(index);
                continue;
            };
            let class = class_name(class);
            reading.classes.insert(class.clone().into_owned());
            if file.contains('/') {
                reading.deep += 1;
            } else {
                reading.direct += 1;
                reading.direct_classes.insert(class.into_owned());
            }
        }
        reading
    }

    /// Whether the photos have classes, if `labels` decides so.
    pub(crate) fn labelled(&self, labels: Labels) -> bool {
        match labels {
            Labels::Auto => self.in_class_folders(2),
            Labels::Folders => true,
            Labels::None => false,
        }
    }

    /// Whether all photos lie below one folder, none of them directly in it.
    pub(crate) fn in_one_folder(&self) -> bool {
        self.classes.len() == 1 && self.direct == 0 && self.loose.is_empty()
    }

    /// Whether there are two folders.
    pub(crate) fn has_folders(&self) -> bool {
        self.classes.len() > 1
    }

    /// Whether these are class folders, at least `classes` of them: photos lie one folder deep, but
    /// for a few.
    pub(crate) fn in_class_folders(&self, classes: usize) -> bool {
        self.direct_classes.len() >= classes.max(1)
            && few(self.loose.len(), self.direct + self.deep)
            && few(self.deep, self.direct)
    }

    /// Why these are no class folders, where they might be taken for some.
    pub(crate) fn why_not(&self) -> Option<String> {
        let folders = self.direct + self.deep;
        let all = folders + self.loose.len();
        if self.classes.len() < 2 {
            // A flat folder, or a single one: nobody would expect classes.
            return None;
        }
        let reason = if few(self.loose.len(), folders) {
            format!(
                "{} of {all} images lie more than one folder deep",
                self.deep
            )
        } else {
            format!("{} of {all} images lie in no folder", self.loose.len())
        };
        Some(reason)
    }
}

/// So few that they look like an oversight beside `rest` others.
pub(crate) fn few(count: usize, rest: usize) -> bool {
    count <= 1 || count * 10 <= rest
}

/// What of `id` stands below its first `skip` folders.
pub(crate) fn below(id: &str, skip: usize) -> &str {
    let mut rest = id;
    for _ in 0..skip {
        rest = rest.split_once('/').map_or(rest, |(_, rest)| rest);
    }
    rest
}
