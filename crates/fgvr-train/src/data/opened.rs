//! Data sets, and what an observer learns of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use fgvr_data::{Dataset, Splits};

use crate::config::PretrainConfig;
use crate::{Observer, Result};

/// Opens the data set of `config` and tells what was found there.
///
/// # Errors
/// Data that cannot be read.
pub(crate) fn open_data(config: &PretrainConfig, observer: &mut dyn Observer) -> Result<Splits> {
    let splits = fgvr_data::open(&config.source, &config.data)?;
    observer.on_data(&splits.found);
    Ok(splits)
}

/// Names of the classes of `judged` that `train` has no image of; none where either has no labels.
pub(crate) fn lacking_classes(train: &Arc<dyn Dataset>, judged: &Arc<dyn Dataset>) -> Vec<String> {
    let labels = |set: &Arc<dyn Dataset>| -> Vec<u32> {
        (0..set.len()).filter_map(|i| set.label(i)).collect()
    };
    lacking(&labels(train), &labels(judged), judged.classes())
}

/// Names in `classes` of the labels in `wanted` that are not among `seen`; none where there are no labels.
pub(crate) fn lacking(seen: &[u32], wanted: &[u32], classes: &[String]) -> Vec<String> {
    let [seen, wanted] =
        [seen, wanted].map(|labels| labels.iter().copied().collect::<BTreeSet<_>>());
    if seen.is_empty() {
        return Vec::new();
    }
    let name = |label: &u32| classes.get(*label as usize).cloned();
    wanted.difference(&seen).filter_map(name).collect()
}
