//! Features of a whole data set.

use std::sync::Arc;

use candle_core::Tensor;
use fgvr_data::{Dataset, Normalisation, load_batch};
use fgvr_encoder::FrozenResNet;
use fgvr_eval::Embeddings;

use crate::Result;
use crate::config::PretrainConfig;

/// Pooled features of a data set, and labels where every image has one.
pub(crate) struct Embedded {
    /// (N, C), in the order of `indices`.
    pub(crate) features: Tensor,
    /// One a row, or none at all.
    pub(crate) labels: Option<Vec<u32>>,
    /// Images that cannot be read, hence without a row.
    pub(crate) unreadable: usize,
}

impl Embedded {
    /// Features and labels for fgvr-eval; `None` without labels.
    ///
    /// # Errors
    /// Features that are not finite.
    pub(crate) fn embeddings(&self) -> Result<Option<Embeddings>> {
        match &self.labels {
            Some(labels) => Ok(Some(Embeddings::new(
                self.features.clone(),
                labels.clone(),
            )?)),
            None => Ok(None),
        }
    }
}

/// How evaluation looks at images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    /// Side of the images in pixels.
    pub(crate) size: usize,
    /// The shorter side before the centre is cut out, in units of `size`.
    pub(crate) resize_ratio: f64,
    /// Images a forward pass.
    pub(crate) batch: usize,
}

impl Sight {
    /// As the settings say.
    #[must_use]
    pub(crate) fn of(config: &PretrainConfig) -> Self {
        Self {
            size: config.data.size,
            resize_ratio: config.evaluate.resize_ratio,
            batch: config.evaluate.batch,
        }
    }
}

/// Pooled features of the images `indices`, unreadable ones left out; `None` where none is left.
///
/// # Errors
/// An encoder that does not take the size.
pub(crate) fn embed(
    encoder: &FrozenResNet,
    dataset: &Arc<dyn Dataset>,
    indices: &[usize],
    how: &Sight,
) -> Result<Option<Embedded>> {
    map_images(dataset, indices, how, |images| Ok(encoder.embed(images)?))
}

/// The pixels themselves as features: (N, 3·side·side), in [0, 1]; `None` where no image is readable.
///
/// # Errors
/// A tensor operation that fails.
pub(crate) fn pixels(
    dataset: &Arc<dyn Dataset>,
    indices: &[usize],
    how: &Sight,
) -> Result<Option<Embedded>> {
    let normalisation = Normalisation::imagenet();
    map_images(dataset, indices, how, |images| {
        Ok(normalisation.undo(images)?.flatten_from(1)?)
    })
}

/// Rows that `f` makes of each batch of images (n, 3, size, size), one below the other; `None`
/// without a readable image.
pub(crate) fn map_images(
    dataset: &Arc<dyn Dataset>,
    indices: &[usize],
    how: &Sight,
    mut f: impl FnMut(&Tensor) -> Result<Tensor>,
) -> Result<Option<Embedded>> {
    let mut rows = Vec::new();
    let mut kept = Vec::with_capacity(indices.len());
    for indices in indices.chunks(how.batch.max(1)) {
        let loaded = load_batch(dataset.as_ref(), indices, how.size, how.resize_ratio)?;
        if let Some(images) = loaded.images {
            rows.push(f(&images)?);
            kept.extend(loaded.indices);
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let labels = kept.iter().map(|i| dataset.label(*i)).collect();
    Ok(Some(Embedded {
        features: Tensor::cat(&rows, 0)?,
        labels,
        unreadable: indices.len() - kept.len(),
    }))
}
