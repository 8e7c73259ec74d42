//! Whether decoded images say of themselves what real ones do: the gate of SynthPair's pairs of images.

use std::sync::Arc;

use candle_core::Tensor;
use fgvr_data::{Dataset, Splits};
use fgvr_encoder::FrozenBackbone;
use fgvr_eval::{Embeddings, Similarity, knn, nearest};
use fgvr_nn::{Decoder, NormMode};
use fgvr_ssl::Space;

use crate::config::PretrainConfig;
use crate::data::lacking_classes;
use crate::embed::{Embedded, all, embed, explained, map_images};
use crate::view::Sight;
use crate::{Error, Result};

/// What was measured.
pub(crate) struct Measured {
    /// That of decoded images over that of real ones.
    pub(crate) share: f64,
    /// In words, for the log.
    pub(crate) line: String,
}

/// What a gate needs of the data, before the first step.
///
/// # Errors
/// No validation image.
pub(crate) fn check(splits: &Splits) -> Result<()> {
    match splits.val.is_empty() {
        true => Err(Error::config(
            "synthpair.gate",
            "it is measured on validation images, and there are none; set data.val_fraction, or synthpair.gate=0",
        )),
        false => Ok(()),
    }
}

/// By labels, kNN from training images' f(x) to validation images' f(d(h)), over that to their f(x), d(h) the decoder's
/// image of their features. Without labels, the share of validation images whose f(d(h)) is nearer, by cosine, to their
/// own f(x) than to that of any other. `None` where no validation image can be read.
///
/// # Errors
/// Networks that do not fit the image size, and features that are not finite.
pub(crate) fn measure(
    config: &PretrainConfig,
    encoder: &FrozenBackbone,
    decoder: &dyn Decoder,
    space: Space,
    splits: &Splits,
) -> Result<Option<Measured>> {
    let sight = Sight::of(config);
    let val = &splits.val;
    let Some(real) = embed(encoder, val, &all(val), &sight)? else {
        return Ok(None);
    };
    let Some(decoded) = embed_decoded(encoder, decoder, space, val, &sight)? else {
        return Ok(None);
    };
    let images = decoded.features.dim(0)?;
    let train = &splits.train;
    let has_labels = val.label(0).is_some() && lacking_classes(train, val).is_empty();
    if let (true, Some(real), Some(decoded)) =
        (has_labels, real.embeddings()?, decoded.embeddings()?)
    {
        // Evenly spread over the split, so that no class is left out.
        let wanted = config.monitor.knn_images.clamp(1, train.len());
        let among: Vec<usize> = (0..wanted).map(|i| i * train.len() / wanted).collect();
        let train = embed(encoder, train, &among, &sight)?;
        let train = train.map(|train| train.embeddings()).transpose()?.flatten();
        if let Some(train) = train {
            let of = |queries: &Embeddings| -> Result<f64> {
                Ok(knn(&train, queries, &config.evaluate.knn)?.top1)
            };
            return by_labels([of(&real)?, of(&decoded)?], images).map(Some);
        }
    }
    let share = own_found_first(&decoded.features, &real.features)?;
    let line = format!(
        "{:.1} % of {images} decoded validation images find their original first",
        100. * share
    );
    Ok(Some(Measured { share, line }))
}

fn by_labels([real, decoded]: [f64; 2], images: usize) -> Result<Measured> {
    // Where real images find nothing, no share of it says that decoded ones do.
    let share = if real > 0. { decoded / real } else { 0. };
    let [real, decoded] = [real, decoded].map(|top1| 100. * top1);
    Ok(Measured {
        share,
        line: format!(
            "kNN of {images} decoded validation images is {decoded:.1} %, of the images themselves {real:.1} %: a share of {share:.2}"
        ),
    })
}

/// f(d(h)) of all images.
fn embed_decoded(
    encoder: &FrozenBackbone,
    decoder: &dyn Decoder,
    space: Space,
    images: &Arc<dyn Dataset>,
    sight: &Sight,
) -> Result<Option<Embedded>> {
    map_images(images, &all(images), sight, |x| {
        let features = match space {
            Space::Vector => explained(encoder, x, encoder.embed(x))?,
            Space::Map => explained(encoder, x, encoder.features(x))?.map,
        };
        let made = decoder.generate(&features, NormMode::Eval)?;
        explained(encoder, &made, encoder.embed(&made))
    })
}

/// The share of rows of `queries` (N, C) whose nearest row of `gallery` (N, C) by cosine is the one of their own number.
fn own_found_first(queries: &Tensor, gallery: &Tensor) -> Result<f64> {
    let n = queries.dim(0)?;
    let found = nearest(queries, gallery, 1, Similarity::Cosine)?;
    let hits = (0..n).filter(|row| found.of(*row).any(|(of, _)| of == *row));
    Ok(hits.count() as f64 / n.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_share_of_nothing_is_nothing_and_originals_are_found_by_cosine() {
        assert_eq!(by_labels([0., 0.], 5).unwrap().share, 0.);
        let half = by_labels([0.5, 0.25], 5).unwrap();
        assert_eq!(half.share, 0.5);
        assert!(half.line.contains("25.0 %") && half.line.contains("50.0 %"));
        let rows = |values: &[[f32; 2]]| {
            let flat: Vec<f32> = values.iter().flatten().copied().collect();
            Tensor::from_vec(flat, (values.len(), 2), &Device::Cpu).unwrap()
        };
        let gallery = rows(&[[1., 0.], [0., 2.], [-1., 0.]]);
        let queries = rows(&[[5., 1.], [0.1, 1.], [0., 1.]]);
        let share = own_found_first(&queries, &gallery).unwrap();
        assert!((share - 2. / 3.).abs() < 1e-12);
    }
}
