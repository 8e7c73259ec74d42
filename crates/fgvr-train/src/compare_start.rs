//! A trained network beside its start, on the validation images.

use fgvr_data::Splits;
use fgvr_encoder::FrozenBackbone;

use crate::adapt::fresh_views;
use crate::against_start::{AgainstStart, ComparedBy};
use crate::config::PretrainConfig;
use crate::data::lacking_classes;
use crate::embed::{Embedded, all, embed};
use crate::view::Sight;
use crate::{Error, Observer, Result};

/// The start and the trained network, each with its features of the training images, in this order.
pub(crate) type Both<'a> = [(&'a FrozenBackbone, Option<&'a Embedded>); 2];

/// Both by kNN on the validation images; `None` where these have no labels, or classes that nothing is trained on.
///
/// # Errors
/// Features that are not finite.
pub(crate) fn by_knn(
    config: &PretrainConfig,
    both: Both<'_>,
    splits: &Splits,
) -> Result<Option<AgainstStart>> {
    let val = &splits.val;
    let has_labels = !val.is_empty() && val.label(0).is_some();
    if !has_labels || !lacking_classes(&splits.train, val).is_empty() {
        return Ok(None);
    }
    let sight = Sight::of(config);
    let mut found = Vec::new();
    let mut images = 0;
    for (encoder, train) in both {
        let of_val = embed(encoder, val, &all(val), &sight)?;
        let (Some(train), Some(of_val)) = (train, of_val) else {
            return Ok(None);
        };
        let (Some(train), Some(of_val)) = (train.embeddings()?, of_val.embeddings()?) else {
            return Ok(None);
        };
        images = of_val.labels.len();
        let nearest = fgvr_eval::knn(&train, &of_val, &config.evaluate.knn);
        found.push(nearest.map_err(Error::from)?.top1);
    }
    match found.as_slice() {
        [start, trained] => {
            let against = AgainstStart::new(ComparedBy::Knn, [*start, *trained], images);
            Ok(Some(against.exported()))
        }
        _ => Ok(None),
    }
}

/// Both by how often the other view of a validation image is found first; `None` with fewer images than the gate of an
/// adaptation asks for.
///
/// # Errors
/// Features that are not finite.
pub(crate) fn by_views(
    config: &PretrainConfig,
    both: [&FrozenBackbone; 2],
    splits: &Splits,
    observer: &mut dyn Observer,
) -> Result<Option<AgainstStart>> {
    let settings = &config.adapt;
    if splits.val.len() < settings.held_out_min.max(2) {
        return Ok(None);
    }
    let sight = Sight::of(config);
    let mut images = 0;
    let mut found = both.into_iter().map(|encoder| -> Result<f64> {
        let seen = fresh_views(encoder, &sight, &splits.val, settings, observer)?;
        images = seen.photos();
        let [first, ..] = seen.measure(None, &seen.plain, settings.agreement)?;
        Ok(first.iter().sum::<f64>() / first.len().max(1) as f64)
    });
    let (Some(start), Some(trained)) = (found.next().transpose()?, found.next().transpose()?)
    else {
        return Ok(None);
    };
    drop(found);
    let by = ComparedBy::ViewsFound;
    Ok(Some(
        AgainstStart::new(by, [start, trained], images).exported(),
    ))
}
