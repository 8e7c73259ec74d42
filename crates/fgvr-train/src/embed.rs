//! Features of a whole data set.

use std::sync::Arc;

use candle_core::Tensor;
use fgvr_data::{Dataset, Loaded, load_batch};
use fgvr_encoder::FrozenBackbone;
use fgvr_eval::Embeddings;
use fgvr_ssl::Screening;

use crate::Result;
use crate::finite::{self, Finite};
use crate::out_of_memory::explain_embedding;
use crate::view::Sight;

/// Pooled features of a data set, and labels where every image has one.
pub(crate) struct Embedded {
    /// (N, C), in the order of the images.
    pub(crate) features: Tensor,
    /// The image of each row.
    rows: Vec<usize>,
    /// One a row, or none at all.
    pub(crate) labels: Option<Vec<u32>>,
    /// Images that cannot be read, hence without a row.
    pub(crate) unreadable: usize,
}

impl Embedded {
    /// Rows that come with a label each.
    pub(crate) fn labelled(features: Tensor, labels: Vec<u32>) -> Self {
        Self {
            features,
            rows: (0..labels.len()).collect(),
            labels: Some(labels),
            unreadable: 0,
        }
    }

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

/// Pooled features of the images `indices`, unreadable ones left out; `None` where none is left.
///
/// # Errors
/// An encoder that does not take the size; features that are not finite.
pub(crate) fn embed(
    encoder: &FrozenBackbone,
    dataset: &Arc<dyn Dataset>,
    indices: &[usize],
    how: &Sight,
) -> Result<Option<Embedded>> {
    let embedded = map_images(dataset, indices, how, |images| pooled(encoder, images))?;
    finite(dataset, embedded)
}

/// What was embedded, if its features are finite.
fn finite(dataset: &Arc<dyn Dataset>, embedded: Option<Embedded>) -> Result<Option<Embedded>> {
    if let Some(Embedded { features, rows, .. }) = &embedded {
        let mut finite = Finite::default();
        finite.look(features, |row| dataset.id(rows[row]))?;
        finite.verdict(finite::OF_A_RUN)?;
    }
    Ok(embedded)
}

/// Features of the images `indices` in which a screening map weighs places, unreadable ones left out; `None` where none is left.
///
/// # Errors
/// An encoder that does not take the size; features that are not finite.
pub(crate) fn embed_screened(
    encoder: &FrozenBackbone,
    screening: &Screening,
    dataset: &Arc<dyn Dataset>,
    indices: &[usize],
    how: &Sight,
) -> Result<Option<Embedded>> {
    let embedded = map_images(dataset, indices, how, |images| {
        let features = explained(encoder, images, encoder.features(images))?;
        Ok(screening.pool(&features.map)?)
    })?;
    finite(dataset, embedded)
}

/// Pooled features of a batch.
pub(crate) fn pooled(encoder: &FrozenBackbone, images: &Tensor) -> Result<Tensor> {
    explained(encoder, images, encoder.embed(images))
}

/// What `encoder` gave for a batch, or what to do about its error, where that is known.
pub(crate) fn explained<T>(
    encoder: &FrozenBackbone,
    images: &Tensor,
    given: candle_core::Result<T>,
) -> Result<T> {
    let images = images.dim(0)?;
    given.map_err(|error| explain_embedding(encoder, images, error.into()))
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
    map_images(dataset, indices, how, |images| {
        Ok(how.normalisation.undo(images)?.flatten_from(1)?)
    })
}

/// The images at `indices`, as the encoder sees them.
pub(crate) fn load(dataset: &Arc<dyn Dataset>, indices: &[usize], how: &Sight) -> Result<Loaded> {
    Ok(load_batch(
        dataset.as_ref(),
        indices,
        &how.view,
        &how.normalisation,
    )?)
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
        let loaded = load(dataset, indices, how)?;
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
        rows: kept,
    }))
}

/// The numbers of all images of `dataset`.
pub(crate) fn all(dataset: &Arc<dyn Dataset>) -> Vec<usize> {
    (0..dataset.len()).collect()
}
