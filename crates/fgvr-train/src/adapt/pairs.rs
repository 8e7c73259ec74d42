//! Training photos that are each other's neighbours by adapted features.

use fgvr_data::Splits;
use fgvr_encoder::FrozenBackbone;
use fgvr_perturb::{Fitter, mutual_neighbours};

use super::embedding::embed;
use super::photos::Photos;
use super::views::Role;
use super::work::Work;
use super::{AdaptOptions, Eye};
use crate::embed::pooled;
use crate::view::Sight;
use crate::{Observer, PretrainConfig, Result};

/// Pairs (i, j), i < j, of training photos that are among each other's `positives.k` nearest by the features of `encoder`, adapted
/// as `adapt.*` says, ascending. Photos that cannot be read are in none.
///
/// # Errors
/// Fewer than two photos that can be read; features that are not finite or all equal; [`crate::Error::Stopped`].
pub(crate) fn neighbour_pairs(
    config: &PretrainConfig,
    splits: &Splits,
    encoder: &FrozenBackbone,
    observer: &mut dyn Observer,
) -> Result<Vec<(u32, u32)>> {
    let (sight, encode) = (Sight::of(config), |images: &_| pooled(encoder, images));
    let eye = Eye {
        sight: &sight,
        data: &config.data,
        width: encoder.width(),
        encode: &encode,
        not_finite: crate::finite::OF_WEIGHTS,
    };
    let mut options = AdaptOptions {
        settings: config.adapt.clone(),
        judge: false,
        apart: true,
        ..AdaptOptions::default()
    };
    // Nothing is tried, and all training photos are paired.
    options.settings.held_out_max = 0;
    let photos = Photos::of(splits, &options);
    let mut work = Work::open(None, "", eye.width, false)?;
    embed(&eye, &photos, &options.settings, &mut work, observer)?;
    let plain = work.rows(Role::Fit);
    let adaptation = Fitter::new(&work.statistics, Some(plain)).fit(&options.settings.config())?;
    let adapted = adaptation.apply(plain)?;
    let pairs = mutual_neighbours(&adapted, eye.width, config.positives.k)?;
    let unreadable = work.unreadable(Role::Fit);
    let readable: Vec<u32> = (0u32..)
        .zip(&photos.fit)
        .filter(|(_, index)| unreadable.iter().all(|bad| bad.index != **index))
        .map(|(number, _)| number)
        .collect();
    let at = |row: u32| readable[row as usize];
    Ok(pairs.into_iter().map(|(a, b)| (at(a), at(b))).collect())
}
