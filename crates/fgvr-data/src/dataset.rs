//! What a data set is: images that load by index, each with an id and perhaps a label.

use std::path::Path;

use crate::{BoundingBox, Error};

/// A decoded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// RGB, interleaved, row by row: `3 * width * height` bytes.
    pub pixels: Vec<u8>,
}

/// Where in an image the parts lie that tell its class from its look-alikes.
#[derive(Clone, Debug, PartialEq)]
pub struct PartMask {
    /// Pixels per row, those of the image.
    pub width: usize,
    /// Rows, those of the image.
    pub height: usize,
    /// `width * height` values, row by row: 1 on such a part, 0 elsewhere.
    pub values: Vec<f32>,
}

/// Images by index, in an order that never changes.
pub trait Dataset: Send + Sync {
    /// How many images there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image at `index`, the same pixels at every call.
    ///
    /// # Errors
    ///
    /// An `index` past the end, or an image that cannot be read or decoded.
    fn load(&self, index: usize) -> Result<Image, Error>;

    /// The class of the image at `index`, a position in [`classes`](Self::classes); `None` without
    /// one and past the end.
    fn label(&self, index: usize) -> Option<u32>;

    /// A name for the image at `index` that says where it comes from.
    fn id(&self, index: usize) -> String;

    /// The file that the image at `index` is; `None` for an image that is no file of its own, and past the end.
    fn path(&self, index: usize) -> Option<&Path> {
        let _ = index;
        None
    }

    /// How many bytes the encoded image at `index` has; `None` where that cannot be told, for an image that is drawn,
    /// and past the end.
    fn encoded_length(&self, index: usize) -> Option<u64> {
        Some(self.path(index)?.metadata().ok()?.len())
    }

    /// The encoded image at `index` as it is stored; `None` for an image that is drawn.
    ///
    /// # Errors
    ///
    /// An image that cannot be read.
    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, Error> {
        let Some(path) = self.path(index) else {
            return Ok(None);
        };
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Some(bytes))
    }

    /// The names of the classes, by label; empty for a set without labels.
    fn classes(&self) -> &[String];

    /// The parts that tell the class of the image at `index`, where the set knows them.
    ///
    /// # Errors
    ///
    /// An `index` past the end, or a mask that cannot be made.
    fn part_mask(&self, index: usize) -> Result<Option<PartMask>, Error> {
        let _ = index;
        Ok(None)
    }

    /// Whether [`part_mask`](Self::part_mask) gives masks; without images it does not.
    ///
    /// # Errors
    ///
    /// A first mask that cannot be made.
    fn knows_parts(&self) -> Result<bool, Error> {
        Ok(!self.is_empty() && self.part_mask(0)?.is_some())
    }

    /// The box around what the image at `index` shows, where the set knows it, in pixels of what [`load`](Self::load)
    /// gives. It may reach beyond the image.
    ///
    /// # Errors
    ///
    /// An `index` past the end, or a box that cannot be read.
    fn bounding_box(&self, index: usize) -> Result<Option<BoundingBox>, Error> {
        let _ = index;
        Ok(None)
    }
}
