//! Images for evaluation.

use std::path::Path;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::augment::EvaluationView;
use crate::{Dataset, Error, Image, MAX_PIXELS, Normalisation, Quarantined};

/// The images that could be read of those asked for, and why the others could not.
#[derive(Debug)]
pub struct Loaded {
    /// (N, 3, size, size), normalised; `None` where none could be read.
    pub images: Option<Tensor>,
    /// The data set's index of each row.
    pub indices: Vec<usize>,
    /// What could not be read.
    pub unreadable: Vec<Quarantined>,
}

/// The images at `indices` as `view` shows them, normalised.
///
/// Evaluation substitutes nothing: an image that cannot be read is left out and listed.
///
/// # Errors
/// [`Error::IndexOutOfRange`], and [`Error::Tensor`] for size 0.
pub fn load_batch(
    dataset: &dyn Dataset,
    indices: &[usize],
    view: &EvaluationView,
    norm: &Normalisation,
) -> Result<Loaded, Error> {
    let size = view.size;
    if size == 0 {
        let message = "load_batch: images of size 0, expected at least 1".to_owned();
        return Err(Error::Tensor(candle_core::Error::Msg(message)));
    }
    let views: Vec<Result<Vec<f32>, Error>> = indices
        .par_iter()
        .map(|&index| {
            let image = load_whole(dataset, index)?;
            Ok(view.apply(&image, norm))
        })
        .collect();
    let mut values = Vec::with_capacity(indices.len() * 3 * size * size);
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for (&index, view) in indices.iter().zip(views) {
        match view {
            Ok(view) => {
                values.extend(view);
                readable.push(index);
            }
            Err(error @ Error::IndexOutOfRange { .. }) => return Err(error),
            Err(error) => unreadable.push(Quarantined {
                index,
                path: dataset.id(index),
                reason: error.to_string(),
            }),
        }
    }
    let images = match readable.len() {
        0 => None,
        n => Some(Tensor::from_vec(values, (n, 3, size, size), &Device::Cpu)?),
    };
    Ok(Loaded {
        images,
        indices: readable,
        unreadable,
    })
}

/// The photo in the file `path` as `view` shows it, normalised: (1, 3, size, size), ready for a network.
///
/// # Errors
/// A file that cannot be read or is no image of a known format, a truncated or oversized image, and [`Error::Tensor`] for size 0.
pub fn load_photo(
    path: &Path,
    view: &EvaluationView,
    norm: &Normalisation,
) -> Result<Tensor, Error> {
    if view.size == 0 {
        let message = "load_photo: an image of size 0, expected at least 1".to_owned();
        return Err(Error::Tensor(candle_core::Error::Msg(message)));
    }
    let image = crate::decode(path, MAX_PIXELS)?;
    let values = view.apply(&image, norm);
    Ok(Tensor::from_vec(
        values,
        (1, 3, view.size, view.size),
        &Device::Cpu,
    )?)
}

/// The image at `index`, with as many bytes as its size says: data sets are anyone's code, and the
/// transforms index into the bytes.
///
/// # Errors
/// An `index` past the end, or an image that cannot be read or decoded; [`Error::Malformed`] for another number of bytes.
pub fn load_whole(dataset: &dyn Dataset, index: usize) -> Result<Image, Error> {
    let image = dataset.load(index)?;
    let expected = image
        .width
        .checked_mul(image.height)
        .and_then(|n| n.checked_mul(3));
    if image.pixels.is_empty() || expected != Some(image.pixels.len()) {
        return Err(Error::Malformed {
            id: dataset.id(index),
            width: image.width,
            height: image.height,
            bytes: image.pixels.len(),
        });
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Folder, Labels};

    #[test]
    fn images_come_in_the_order_asked_for_and_a_broken_one_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..3u8 {
            let picture = image::RgbImage::from_pixel(20, 10, image::Rgb([i * 100; 3]));
            picture
                .save(folder.path().join(format!("{i}.png")))
                .unwrap();
        }
        std::fs::write(folder.path().join("3.png"), "no picture").unwrap();
        let photos = Folder::new(folder.path(), Labels::None, 1000).unwrap();
        let view = EvaluationView::of_ratio(8, crate::augment::RESIZE_RATIO);
        let load =
            |indices: &[usize]| load_batch(&photos, indices, &view, &Normalisation::imagenet());
        let batch = load(&[2, 0, 2]).unwrap().images.unwrap();
        assert_eq!(batch.dims(), [3, 3, 8, 8]);
        let unit = Normalisation::imagenet().undo(&batch).unwrap();
        let first = unit.narrow(2, 4, 1).unwrap().narrow(3, 4, 1).unwrap();
        let first = first.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (value, expected) in first
            .iter()
            .zip([200., 200., 200., 0., 0., 0., 200., 200., 200.])
        {
            assert!((value - expected / 255.).abs() < 1e-5);
        }
        let loaded = load(&[0, 3, 1]).unwrap();
        assert_eq!(loaded.indices, [0, 1]);
        assert_eq!(loaded.images.unwrap().dims(), [2, 3, 8, 8]);
        assert_eq!(loaded.unreadable[0].path, "3.png");
        assert!(load(&[]).unwrap().images.is_none());
        let one = load_photo(
            &folder.path().join("2.png"),
            &view,
            &Normalisation::imagenet(),
        );
        let one = one.unwrap();
        assert_eq!(one.dims(), [1, 3, 8, 8]);
        let off = (one - batch.narrow(0, 0, 1).unwrap()).unwrap().abs();
        assert_eq!(
            off.unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(),
            0.
        );
        let none = load_photo(&folder.path().join("3.png"), &view, &Normalisation::none());
        assert!(none.is_err());
        let error = load(&[0, 9]).unwrap_err().to_string();
        assert!(error.contains("index 9"), "{error}");
    }
}
