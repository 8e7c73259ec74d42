//! A split of a set: photos with box and parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{DynamicImage, ImageDecoder, ImageReader};

use super::boxes::BoundingBox;
use super::index::{Entry, Parts};
use super::text::at;
use crate::dataset::PartMask;
use crate::folder::Photo;
use crate::{Dataset, Error, Image, decode};

/// What all splits of a set have in common.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) classes: Vec<String>,
    pub(super) max_pixels: u64,
    /// The margin around the box that is cut out, as a share of its longer side.
    pub(super) crop: Option<f64>,
    /// Rows that are cut off below.
    pub(super) banner: usize,
    pub(super) has_parts: bool,
}

/// A split, in the order of the set's list.
pub(super) struct Listed {
    shared: Arc<Shared>,
    photos: Vec<Photo>,
    entries: Vec<Entry>,
}

/// Columns and rows of an image: first and end of each.
type Window = [usize; 4];

impl Listed {
    pub(super) fn new(shared: &Arc<Shared>, images: Vec<(Photo, Entry)>) -> Self {
        let (photos, entries) = images.into_iter().unzip();
        Self {
            shared: shared.clone(),
            photos,
            entries,
        }
    }

    pub(super) fn photos(&self) -> &[Photo] {
        &self.photos
    }

    /// Those that are not held out, and those that are.
    pub(super) fn divided(self, held_out: &[bool]) -> (Self, Self) {
        let images = self.photos.into_iter().zip(self.entries).zip(held_out);
        let (out, kept): (Vec<_>, Vec<_>) = images.partition(|(_, out)| **out);
        let part = |images: Vec<((Photo, Entry), &bool)>| {
            let images = images.into_iter().map(|(image, _)| image);
            Self::new(&self.shared, images.collect())
        };
        (part(kept), part(out))
    }

    fn image(&self, index: usize) -> Result<(&Photo, &Entry), Error> {
        let image = self.photos.get(index).zip(self.entries.get(index));
        image.ok_or_else(|| Error::IndexOutOfRange {
            set: self.shared.name.clone(),
            index,
            len: self.photos.len(),
        })
    }

    /// The file's picture without a banner.
    fn whole(&self, photo: &Photo) -> Result<Image, Error> {
        let mut image = decode(&photo.path, self.shared.max_pixels)?;
        let banner = self.shared.banner;
        if banner > 0 {
            if image.height <= banner {
                return Err(Error::Kind {
                    path: photo.path.clone(),
                    kind: format!(
                        "{} rows, of which the lowest {banner} are a banner",
                        image.height
                    ),
                    remedy: "take the set's own images",
                });
            }
            image.height -= banner;
            image.pixels.truncate(3 * image.width * image.height);
        }
        Ok(image)
    }

    /// What of an image of `width` x `height` is used.
    fn window(&self, entry: &Entry, width: usize, height: usize) -> Result<Window, Error> {
        let (Some(margin), Some(bounds)) = (self.shared.crop, &entry.bounds) else {
            return Ok([0, 0, width, height]);
        };
        let (bounds, file, place) = bounds.read(&self.shared.folder)?;
        bounds.widened(margin).window(width, height).ok_or_else(|| {
            let BoundingBox {
                left,
                top,
                right,
                bottom,
            } = bounds;
            let problem = format!(
                "the box of {}, {left} to {right} across and {top} to {bottom} down, does not touch its {width} x {height} pixels",
                entry.path
            );
            at(&file, place, problem)
        })
    }
}

impl Dataset for Listed {
    fn len(&self) -> usize {
        self.photos.len()
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        let (photo, entry) = self.image(index)?;
        let image = self.whole(photo)?;
        let window = self.window(entry, image.width, image.height)?;
        let [left, top, right, bottom] = window;
        Ok(Image {
            pixels: cut(&image.pixels, image.width, 3, window),
            width: right - left,
            height: bottom - top,
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.photos.get(index)?.label
    }

    /// The path from the folder that was opened.
    fn id(&self, index: usize) -> String {
        self.photos
            .get(index)
            .map_or_else(String::new, |photo| photo.id.clone())
    }

    fn path(&self, index: usize) -> Option<&Path> {
        Some(&self.photos.get(index)?.path)
    }

    fn classes(&self) -> &[String] {
        &self.shared.classes
    }

    fn part_mask(&self, index: usize) -> Result<Option<PartMask>, Error> {
        let (photo, entry) = self.image(index)?;
        if matches!(entry.parts, Parts::None) {
            return Ok(None);
        }
        // The size is that of the photo the right way up, which its decoder knows.
        let Image { width, height, .. } = self.whole(photo)?;
        let values = match &entry.parts {
            Parts::None => return Ok(None),
            Parts::Points { points, radius } => discs(points, *radius, width, height),
            Parts::Trimap(path) => trimap(&self.shared.folder.join(path), width, height)?,
        };
        let window = self.window(entry, width, height)?;
        let [left, top, right, bottom] = window;
        Ok(Some(PartMask {
            values: cut(&values, width, 1, window),
            width: right - left,
            height: bottom - top,
        }))
    }

    fn knows_parts(&self) -> Result<bool, Error> {
        Ok(self.shared.has_parts && !self.is_empty())
    }

    fn bounding_box(&self, index: usize) -> Result<Option<BoundingBox>, Error> {
        let (_, entry) = self.image(index)?;
        let Some(bounds) = &entry.bounds else {
            return Ok(None);
        };
        let (bounds, ..) = bounds.read(&self.shared.folder)?;
        // Where the crop begins does not depend on the size of the image.
        let (left, top) = match self.shared.crop {
            None => (0., 0.),
            Some(margin) => {
                let crop = bounds.widened(margin);
                (crop.left, crop.top)
            }
        };
        Ok(Some(BoundingBox {
            left: bounds.left - left,
            top: bounds.top - top,
            right: bounds.right - left,
            bottom: bounds.bottom - top,
        }))
    }
}

/// What of rows of `width` pixels of `channels` values each lies in the window.
fn cut<T: Copy>(
    values: &[T],
    width: usize,
    channels: usize,
    [left, top, right, bottom]: Window,
) -> Vec<T> {
    let mut part = Vec::with_capacity((right - left) * (bottom - top) * channels);
    for row in values.chunks_exact(width * channels).take(bottom).skip(top) {
        part.extend_from_slice(&row[left * channels..right * channels]);
    }
    part
}

/// 1 on pixels whose middle lies within `radius` of a point, and on the pixel of each point.
fn discs(points: &[[f64; 2]], radius: f64, width: usize, height: usize) -> Vec<f32> {
    let mut values = vec![0.; width * height];
    // `as` cuts off what is below 0.
    let range = |middle: f64, length: usize| {
        let (first, end) = (middle - radius, middle + radius + 1.);
        first as usize..(end.ceil() as usize).min(length)
    };
    for &[x, y] in points {
        for row in range(y, height) {
            for column in range(x, width) {
                let off = (column as f64 + 0.5 - x).hypot(row as f64 + 0.5 - y);
                let own = x.floor() == column as f64 && y.floor() == row as f64;
                if off <= radius || own {
                    values[row * width + column] = 1.;
                }
            }
        }
    }
    values
}

/// 1 where the picture at `path` is 1, the foreground of a trimap.
fn trimap(path: &Path, width: usize, height: usize) -> Result<Vec<f32>, Error> {
    let damaged = |source| Error::Decode {
        path: path.to_owned(),
        source,
    };
    let reader = ImageReader::open(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    let reader = reader.with_guessed_format();
    let decoder = reader
        .map_err(|e| damaged(e.into()))?
        .into_decoder()
        .map_err(damaged)?;
    // Before anything is allocated.
    let (columns, rows) = decoder.dimensions();
    if (columns as usize, rows as usize) != (width, height) {
        return Err(Error::Kind {
            path: path.to_owned(),
            kind: format!("a trimap of {columns} x {rows}, its image has {width} x {height}"),
            remedy: "take the set's own trimaps and images",
        });
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let grey = picture.into_luma8().into_raw();
    Ok(grey
        .into_iter()
        .map(|value| f32::from(u8::from(value == 1)))
        .collect())
}
