//! The embeddings of a whole data set, as an embedding file has them.

use std::sync::Arc;

use fgvr_data::{Dataset, Splits, shown};

use crate::adaptation::adaptation_in_words;
use crate::embed::{all, load};
use crate::finite::Finite;
use crate::{Embedder, EmbeddingTable, Error, Observer, Result};

/// What the training split is called in tables.
pub(crate) const TRAIN: &str = "train";

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
/// A data set that cannot be opened, or one without a readable photo; features that are not finite.
pub(crate) fn embed_splits(
    embedder: &Embedder,
    source: &str,
    splits: &Splits,
    observer: &mut dyn Observer,
) -> Result<EmbeddingTable> {
    let sets = [
        (TRAIN, Some(&splits.train)),
        ("val", Some(&splits.val)),
        ("test", splits.test.as_ref()),
    ];
    let there = |(name, set): (_, Option<_>)| Some((name, set?));
    let sets: Vec<_> = sets.into_iter().filter_map(there).collect();
    embed_parts(embedder, source, &sets, observer)
}

/// The same of some splits alone, each with its name.
///
/// # Errors
/// As of [`embed_set`].
pub(crate) fn embed_parts(
    embedder: &Embedder,
    source: &str,
    sets: &[(&'static str, &Arc<dyn Dataset>)],
    observer: &mut dyn Observer,
) -> Result<EmbeddingTable> {
    let sets: Vec<_> = sets.iter().filter(|(_, set)| !set.is_empty()).collect();
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
    for (split, set) in sets {
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
