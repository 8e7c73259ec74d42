//! Photos in folders.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Dataset, Error, Image, decode};

/// How deep folders may be nested; a link that leads back up would never end otherwise.
const DEEPEST: usize = 32;

/// What the folders around a photo say about its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Labels {
    /// [`Labels::Folders`] when every photo lies exactly one folder deep and there are at least two
    /// such folders; [`Labels::None`] otherwise.
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
    /// From the folder that was opened, with `/` between names.
    pub(crate) id: String,
    path: PathBuf,
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
    /// All photos in `root` and below.
    ///
    /// Files count as photos by their extension (jpg, jpeg, png, webp, bmp, in either case) or,
    /// without one, by their first bytes; names that begin with a dot are passed over. Whether they
    /// can be read shows when they are loaded.
    ///
    /// # Errors
    /// [`Error::NoFolder`], [`Error::NotAFolder`], [`Error::NoPhotos`], [`Error::Io`], and
    /// [`Error::Layout`] for folders nested without end or a photo without the class that
    /// [`Labels::Folders`] asks for.
    pub fn new(root: &Path, labels: Labels, max_pixels: u64) -> Result<Self, Error> {
        let photos = scan(root)?;
        let labelled = match labels {
            Labels::Auto => looks_labelled(&photos),
            Labels::Folders => true,
            Labels::None => false,
        };
        let mut folder = Self {
            name: root.display().to_string(),
            photos,
            classes: Vec::new(),
            max_pixels,
        };
        if labelled {
            let classes = folder.class_names(root)?;
            folder.set_classes(&classes.into_iter().collect::<Vec<_>>());
        }
        Ok(folder)
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

    /// The first folder of every photo.
    fn class_names(&self, root: &Path) -> Result<BTreeSet<String>, Error> {
        let class = |photo: &Photo| match photo.id.split_once('/') {
            Some((class, _)) => Ok(class.to_owned()),
            None => Err(Error::Layout {
                path: root.join(&photo.id),
                problem: "lies in no class folder".to_owned(),
            }),
        };
        self.photos.iter().map(class).collect()
    }

    /// Labels every photo by its first folder's position in `classes`, which must be sorted.
    pub(crate) fn set_classes(&mut self, classes: &[String]) {
        for photo in &mut self.photos {
            let class = photo.id.split('/').next().unwrap_or_default();
            let position = classes.binary_search_by(|c| c.as_str().cmp(class));
            photo.label = position.ok().and_then(|p| u32::try_from(p).ok());
        }
        self.classes = classes.to_vec();
    }

    /// Puts `folder/` in front of every id.
    pub(crate) fn prefix_ids(&mut self, folder: &str) {
        for photo in &mut self.photos {
            photo.id = format!("{folder}/{}", photo.id);
        }
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

    /// The path from the folder that was opened, with `/` between names.
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

fn looks_labelled(photos: &[Photo]) -> bool {
    let mut classes = BTreeSet::new();
    photos.iter().all(|photo| match photo.id.split_once('/') {
        Some((class, file)) => {
            classes.insert(class);
            !file.contains('/')
        }
        None => false,
    }) && classes.len() > 1
}

/// The photos in `root` and below, sorted by id.
fn scan(root: &Path) -> Result<Vec<Photo>, Error> {
    match fs::metadata(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NoFolder {
                path: root.to_owned(),
            });
        }
        Err(e) => return Err(io_error(root, e)),
        Ok(m) if !m.is_dir() => {
            return Err(Error::NotAFolder {
                path: root.to_owned(),
            });
        }
        Ok(_) => {}
    }
    let mut photos = Vec::new();
    walk(root, "", 0, &mut photos)?;
    if photos.is_empty() {
        return Err(Error::NoPhotos {
            path: root.to_owned(),
        });
    }
    photos.sort_by(|a, b| (&a.id, &a.path).cmp(&(&b.id, &b.path)));
    Ok(photos)
}

fn walk(folder: &Path, id: &str, depth: usize, photos: &mut Vec<Photo>) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(Error::Layout {
            path: folder.to_owned(),
            problem: format!("more than {DEEPEST} folders deep; a link that leads back up?"),
        });
    }
    for entry in fs::read_dir(folder).map_err(|e| io_error(folder, e))? {
        let entry = entry.map_err(|e| io_error(folder, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let id = if id.is_empty() {
            name
        } else {
            format!("{id}/{name}")
        };
        // Of the target, where it is a link. A link to nothing is a photo that cannot be read, if
        // its name says that it is a photo.
        if fs::metadata(&path).is_ok_and(|m| m.is_dir()) {
            walk(&path, &id, depth + 1, photos)?;
        } else if is_photo(&path) {
            photos.push(Photo {
                id,
                path,
                label: None,
            });
        }
    }
    Ok(())
}

fn is_photo(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => {
            let extension = extension.to_string_lossy().to_ascii_lowercase();
            matches!(extension.as_str(), "jpg" | "jpeg" | "png" | "webp" | "bmp")
        }
        None => {
            let mut start = [0; 16];
            let length = File::open(path).and_then(|mut f| f.read(&mut start));
            length.is_ok_and(|length| {
                image::guess_format(&start[..length]).is_ok_and(|f| f.reading_enabled())
            })
        }
    }
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
