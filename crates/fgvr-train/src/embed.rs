//! Features of a whole data set.

use std::sync::Arc;

use candle_core::Tensor;
use fgvr_data::augment::EvaluationView;
use fgvr_data::{Dataset, Loaded, Normalisation, Splits, load_batch, shown};
use fgvr_encoder::FrozenBackbone;
use fgvr_eval::Embeddings;
use fgvr_ssl::Screening;

use crate::config::PretrainConfig;
use crate::evaluate::all;
use crate::finite::{self, Finite};
use crate::fitting::explain_embedding;
use crate::judge::adaptation_in_words;
use crate::{Embedder, EmbeddingTable, Error, Observer, Result};

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

/// How evaluation looks at images.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    /// What of a photo, and how it is resized.
    pub(crate) view: EvaluationView,
    /// Images a forward pass.
    pub(crate) batch: usize,
    /// From pixel values to what the network is fed.
    pub(crate) normalisation: Normalisation,
}

impl Sight {
    /// As the settings say.
    #[must_use]
    pub(crate) fn of(config: &PretrainConfig) -> Self {
        Self {
            view: config.evaluation_view(),
            batch: config.evaluate.batch,
            normalisation: config.normalisation.clone(),
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

/// As [`embed`], with places weighed by a screening map.
///
/// # Errors
/// As [`embed`].
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
fn load(dataset: &Arc<dyn Dataset>, indices: &[usize], how: &Sight) -> Result<Loaded> {
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

/// Features of every photo of a data set, split by split, unreadable ones left out and named to the
/// observer.
///
/// # Errors
/// A data set that cannot be opened, or one without a readable photo; features that are not finite.
pub fn embed_set(
    embedder: &Embedder,
    source: &str,
    observer: &mut dyn Observer,
) -> Result<EmbeddingTable> {
    let splits = fgvr_data::open(source, &embedder.data)?;
    observer.on_data(&splits.found);
    embed_splits(embedder, source, &splits, observer)
}

/// The same of a data set that is open.
///
/// # Errors
/// As [`embed_set`].
pub(crate) fn embed_splits(
    embedder: &Embedder,
    source: &str,
    splits: &Splits,
    observer: &mut dyn Observer,
) -> Result<EmbeddingTable> {
    let sets = [
        ("train", Some(&splits.train)),
        ("val", Some(&splits.val)),
        ("test", splits.test.as_ref()),
    ];
    let sets: Vec<_> = sets
        .into_iter()
        .filter_map(|(name, set)| Some((name, set.filter(|set| !set.is_empty())?)))
        .collect();
    let total: usize = sets.iter().map(|(_, set)| set.len()).sum();
    observer.on_phase(&format!("embedding {total} photos"));
    let mut table = EmbeddingTable {
        features: Vec::with_capacity(total * embedder.width()),
        width: embedder.width(),
        paths: Vec::with_capacity(total),
        splits: Vec::with_capacity(total),
        labels: Vec::with_capacity(total),
        // A split without labels beside others has none.
        classes: sets
            .iter()
            .map(|(_, set)| set.classes())
            .find(|classes| !classes.is_empty())
            .map_or_else(Vec::new, <[String]>::to_vec),
        device: embedder.device().to_owned(),
        adaptation: embedder.adaptation().map(adaptation_in_words),
    };
    let mut done = 0;
    let mut finite = Finite::default();
    for (split, set) in &sets {
        for indices in all(set).chunks(embedder.sight.batch.max(1)) {
            let loaded = load(set, indices, &embedder.sight)?;
            for bad in &loaded.unreadable {
                let line = format!("left out: {} ({})", bad.path, bad.reason);
                observer.on_message(&shown(&line));
            }
            if let Some(images) = loaded.images {
                let features = embedder.embed(&images)?;
                finite.look(&features, |row| set.id(loaded.indices[row]))?;
                table
                    .features
                    .extend(features.flatten_all()?.to_vec1::<f32>()?);
                for index in loaded.indices {
                    table.paths.push(set.id(index));
                    table.splits.push(*split);
                    table.labels.push(set.label(index).map_or(-1, i64::from));
                }
            }
            done += indices.len();
            observer.on_images(done, total);
        }
    }
    if table.paths.is_empty() {
        return Err(Error::config(source, "holds no photo that can be read"));
    }
    finite.verdict(embedder.not_finite)?;
    Ok(table)
}
