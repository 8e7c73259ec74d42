//! Figures of frozen features: kNN, linear probe and retrieval, from training to judged images.

use std::collections::BTreeSet;
use std::sync::Arc;

use fgvr_data::Dataset;
use fgvr_data::augment::EvaluationView;
use fgvr_encoder::Backbone;
use fgvr_eval::{RetrievalConfig, knn, linear_probe, retrieval};
use serde::Serialize;

use crate::Result;
use crate::config::PretrainConfig;
use crate::embed::{Embedded, all, embed, pixels};
use crate::view::Sight;

/// Figures of one kind of features.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    /// Nearest neighbours, from training to judged images.
    pub knn: Option<Knn>,
    /// Linear probe, from training to judged images.
    pub linear: Option<Linear>,
    /// Retrieval among the judged images.
    pub retrieval: Option<Retrieval>,
}

/// Accuracy of the nearest-neighbour vote.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Knn {
    /// Fraction of judged images whose class is voted first.
    pub top1: f64,
}

/// Accuracy of the linear probe.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Linear {
    /// Fraction of judged images whose class comes first.
    pub top1: f64,
    /// Fraction of judged images whose class is among the first five.
    pub top5: f64,
}

/// Retrieval of the same class.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Retrieval {
    /// Fraction of queries whose nearest image is of their class.
    pub rank1: f64,
    /// Fraction with one of their class among the five nearest.
    pub rank5: f64,
    /// Mean average precision.
    pub map: f64,
}

/// Figures of features of the training and the judged images, and how many of the latter retrieval
/// leaves out. A figure that the set does not allow (no labels, one class, a judged class without a
/// training image) is `None`.
///
/// # Errors
/// Features that are not finite.
pub(crate) fn figures(
    config: &PretrainConfig,
    train: Option<&Embedded>,
    test: Option<&Embedded>,
) -> Result<(Figures, Option<usize>)> {
    let (Some(train), Some(test)) = (train, test) else {
        return Ok((Figures::default(), None));
    };
    let (Some(train), Some(test)) = (train.embeddings()?, test.embeddings()?) else {
        return Ok((Figures::default(), None));
    };
    // Images of a class that nothing is trained on would count as wrong, whatever the features are.
    let seen: BTreeSet<u32> = train.labels.iter().copied().collect();
    let (nearest, linear) = if test.labels.iter().all(|label| seen.contains(label)) {
        let linear = match linear_probe(&train, &test, &config.evaluate.linear) {
            Ok(probe) => Some(Linear {
                top1: probe.top1,
                top5: probe.top5,
            }),
            Err(fgvr_eval::Error::OneClass { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let nearest = knn(&train, &test, &config.evaluate.knn)?;
        (Some(Knn { top1: nearest.top1 }), linear)
    } else {
        (None, None)
    };
    let (retrieval, left_out) = match retrieval(&test, &RetrievalConfig::default()) {
        Ok(ranked) => {
            let figures = Retrieval {
                rank1: ranked.rank1,
                rank5: ranked.rank5,
                map: ranked.map,
            };
            (Some(figures), ranked.left_out)
        }
        // Every test image is alone in its class.
        Err(fgvr_eval::Error::Nothing { .. }) => (None, test.labels.len()),
        Err(error) => return Err(error.into()),
    };
    let figures = Figures {
        knn: nearest,
        linear,
        retrieval,
    };
    Ok((figures, Some(left_out)))
}

/// Figures of an encoder's frozen features.
///
/// # Errors
/// An encoder that does not take the size; features that are not finite.
pub(crate) fn encoder_figures(
    config: &PretrainConfig,
    encoder: &Backbone,
    train: &Arc<dyn Dataset>,
    test: &Arc<dyn Dataset>,
) -> Result<Figures> {
    let (sight, encoder) = (Sight::of(config), encoder.freeze()?);
    let train = embed(&encoder, train, &all(train), &sight)?;
    let test = embed(&encoder, test, &all(test), &sight)?;
    Ok(figures(config, train.as_ref(), test.as_ref())?.0)
}

/// Figures of the pixels themselves.
///
/// # Errors
/// Features that are not finite; a tensor operation that fails.
pub(crate) fn pixel_figures(
    config: &PretrainConfig,
    train: &Arc<dyn Dataset>,
    test: &Arc<dyn Dataset>,
) -> Result<Figures> {
    let side = config.evaluate.pixel_side.min(config.data.size);
    let sight = Sight {
        view: EvaluationView::of_ratio(side, config.evaluate.resize_ratio),
        ..Sight::of(config)
    };
    let train = pixels(train, &all(train), &sight)?;
    let test = pixels(test, &all(test), &sight)?;
    Ok(figures(config, train.as_ref(), test.as_ref())?.0)
}

/// Figures of the encoder before training as those of the start and of the untrained encoder, of which a run has one.
pub(crate) fn named(config: &PretrainConfig, before: Figures) -> [Option<Figures>; 2] {
    match config.is_pretrained() {
        true => [Some(before), None],
        false => [None, Some(before)],
    }
}
