//! Photos in folders.

mod classes;
mod kind;
mod scan;

use std::path::{Path, PathBuf};

use crate::name::{class_name, shown_path};
use crate::{Dataset, Error, Image, decode, shown};

pub(crate) use classes::{Reading, below, few};
pub(crate) use kind::{counted_as, litter};
pub(crate) use scan::{Scan, scan};

/// What the folders around a photo say about its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Labels {
    /// The folder that a photo lies in is its class, when at least two folders hold photos and no
    /// photo lies elsewhere, but for a single one or one in ten: one beside the class folders is left
    /// out, one deeper inside of a class folder is of that class. No photo has a class otherwise.
    #[default]
    Auto,
    /// The first folder below the root is the class, whatever lies below it. A photo at the root is
    /// an error.
    Folders,
    /// No photo has a class.
    None,
}

/// One photo of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Photo {
    /// From the folder that was opened, as [`id_of`](crate::id_of) writes it.
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) label: Option<u32>,
}

/// Photos below a folder, in the order of their relative paths. Read and decoded when asked for.
#[derive(Clone, Debug)]
pub struct Folder {
    name: String,
    photos: Vec<Photo>,
    classes: Vec<String>,
    max_pixels: u64,
}

impl Folder {
    /// All photos in `root` and below, but for those that [`Labels::Auto`] leaves out.
    ///
    /// Files count as photos by their usual endings (jpg, jpeg, jpe, jfif, png, webp, bmp, dib, ...,
    /// in either case) or, under another name, by their first bytes; hidden ones, what systems leave
    /// behind for themselves, and what fgvr writes (runs, exports) are passed over. Whether a photo
    /// can be read shows when it is loaded. A folder that cannot be read is passed over, and so is one
    /// that a link leads to when it is read already. [`open`](crate::open) says what was passed over.
    ///
    /// # Errors
    /// [`Error::NoFolder`], [`Error::NotAFolder`], [`Error::NoPhotos`], [`Error::Io`] for `root`
    /// itself, and [`Error::Layout`] for a photo without the class that [`Labels::Folders`] asks for.
    pub fn new(root: &Path, labels: Labels, max_pixels: u64) -> Result<Self, Error> {
        let mut folder = Self::of(root, scan(root)?.photos, max_pixels);
        let reading = folder.read(labels, 0)?;
        if reading.labelled(labels) {
            folder.leave_out(&reading.loose);
            folder.set_classes(&reading.classes.into_iter().collect::<Vec<_>>(), 0);
        }
        Ok(folder)
    }

    /// `photos` of the folder `root`, without classes.
    pub(crate) fn of(root: &Path, photos: Vec<Photo>, max_pixels: u64) -> Self {
        Self {
            name: shown_path(root),
            photos,
            classes: Vec::new(),
            max_pixels,
        }
    }

    /// What the folders say that lie `skip` below the one that was opened.
    ///
    /// # Errors
    /// [`Error::Layout`] for a photo without the class that [`Labels::Folders`] asks for.
    pub(crate) fn read(&self, labels: Labels, skip: usize) -> Result<Reading, Error> {
        let reading = Reading::of(&self.photos, skip);
        match reading.loose.first() {
            Some(loose) if labels == Labels::Folders => Err(Error::Layout {
                path: self.photos[*loose].path.clone(),
                problem: "lies in no class folder; move it into one, or set data.labels=auto"
                    .to_owned(),
            }),
            _ => Ok(reading),
        }
    }

    /// Why these photos are without labels, though their folders might be taken for classes.
    pub(crate) fn why_unlabelled(&self, reading: &Reading, skip: usize) -> Option<String> {
        if let Some(reason) = reading.why_not() {
            return Some(format!(
                "no labels: {reason}; data.labels=folders takes the first folder of each for its class"
            ));
        }
        let first = below(&self.photos.first()?.id, skip).split('/').next()?;
        let inside = Reading::of(&self.photos, skip + 1);
        (reading.in_one_folder() && inside.has_folders()).then(|| {
            let first = shown(first);
            format!("no labels: all images lie in the folder {first}; open that one to have the folders in it as classes or splits")
        })
    }

    /// The same folder with only the photos that `keep` says yes to.
    pub(crate) fn subset(&self, keep: impl Fn(usize) -> bool) -> Self {
        let photos = self.photos.iter().enumerate();
        Self {
            photos: photos
                .filter(|(i, _)| keep(*i))
                .map(|(_, p)| p.clone())
                .collect(),
            ..self.clone()
        }
    }

    pub(crate) fn photos(&self) -> &[Photo] {
        &self.photos
    }

    /// Takes the photos at `positions`, which are sorted, out, and returns their ids.
    pub(crate) fn leave_out(&mut self, positions: &[usize]) -> Vec<String> {
        let left_out = positions.iter().map(|&i| self.photos[i].id.clone());
        let left_out = left_out.collect();
        let mut index = 0;
        self.photos.retain(|_| {
            index += 1;
            positions.binary_search(&(index - 1)).is_err()
        });
        left_out
    }

    /// Labels every photo by the position in `classes`, which must be sorted, of the folder that
    /// stands `skip` folders below the one that was opened.
    pub(crate) fn set_classes(&mut self, classes: &[String], skip: usize) {
        for photo in &mut self.photos {
            let class = below(&photo.id, skip).split('/').next();
            let class = class_name(class.unwrap_or_default());
            let position = classes.binary_search_by(|c| c.as_str().cmp(&class));
            photo.label = position.ok().and_then(|p| u32::try_from(p).ok());
        }
        self.classes = classes.to_vec();
    }

    fn photo(&self, index: usize) -> Result<&Photo, Error> {
        self.photos
            .get(index)
            .ok_or_else(|| Error::IndexOutOfRange {
                set: self.name.clone(),
                index,
                len: self.photos.len(),
            })
    }
}

impl Dataset for Folder {
    fn len(&self) -> usize {
        self.photos.len()
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        decode(&self.photo(index)?.path, self.max_pixels)
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.photos.get(index)?.label
    }

    /// The path from the folder that was opened, as [`id_of`](crate::id_of) writes it.
    fn id(&self, index: usize) -> String {
        self.photos
            .get(index)
            .map_or_else(String::new, |p| p.id.clone())
    }

    fn path(&self, index: usize) -> Option<&Path> {
        Some(&self.photos.get(index)?.path)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests;
