//! Judging frozen features: kNN, linear probe and retrieval beside honest baselines.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::{DType, Device};
use fgvr_data::augment::EvaluationView;
use fgvr_data::{Dataset, Found, Splits, shown};
use fgvr_encoder::Backbone;
use fgvr_eval::{RetrievalConfig, knn, linear_probe, retrieval};
use fgvr_nn::Parameters;
use serde::Serialize;

use crate::against_start::{self, AgainstStart};
use crate::config::PretrainConfig;
use crate::data::lacking;
use crate::embed::{Embedded, Sight, embed, embed_screened, pixels};
use crate::parts::{PartHits, part_hits};
use crate::reconstruct::{Psnr, reconstruction_psnr};
use crate::start::{load_start, open_weights};
use crate::trained::Trained;
use crate::{Compute, Error, Observer, Result};

/// `eval.json`: figures are fractions in [0, 1], absent (`null`) where there are no labels, and those of
/// neighbours and probe where there is nothing to train on of a class that is judged.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// The trained encoder.
    pub trained: Figures,
    /// Its features with places weighed by the screening map of `lcr`; absent without it.
    pub screened: Option<Figures>,
    /// The pretrained weights it started from; absent of a run that started from random ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Figures>,
    /// The random weights it started from; absent of a run that started from pretrained ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrained: Option<Figures>,
    /// Whether training took a pretrained network below its start, on images that neither training nor a figure of the
    /// table has seen; absent where it started from random weights or there is nothing to compare by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_start: Option<AgainstStart>,
    /// Raw pixels.
    pub pixels: Figures,
    /// Reconstruction; absent for arms without a decoder.
    pub psnr: Option<Psnr>,
    /// How well masks and maps hit the parts that tell classes apart, where the set knows them.
    pub parts: Option<PartHits>,
    /// Classes of the set; absent without labels.
    pub classes: Option<usize>,
    /// Images that were trained on.
    pub train_images: usize,
    /// Of which split the judged images are.
    pub judged_on: JudgedOn,
    /// Test images that were judged; 0 where validation images were.
    pub test_images: usize,
    /// Validation images that were judged in place of test images; 0 otherwise.
    pub validation_images: usize,
    /// Judged images left out of retrieval queries, since they are the only ones of their class.
    pub single_image_queries: Option<usize>,
    /// What was found where the data was opened.
    pub data: Found,
    /// Where the networks ran.
    pub device: String,
}

/// The split that figures are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JudgedOn {
    /// Images that neither training nor any choice has seen.
    Test,
    /// Where there are no test images, or none with labels: images that training has not seen, and by
    /// which the best checkpoint is chosen.
    Validation,
}

impl JudgedOn {
    /// The split, and its images.
    fn choose(splits: &Splits) -> (Self, &Arc<dyn Dataset>) {
        let labelled = |set: &Arc<dyn Dataset>| set.label(0).is_some();
        match &splits.test {
            Some(test) if labelled(test) || !labelled(&splits.val) => (Self::Test, test),
            None if splits.val.is_empty() => (Self::Test, &splits.val),
            _ => (Self::Validation, &splits.val),
        }
    }

    /// As it stands before the word "images".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Validation => "validation",
        }
    }
}

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
/// As [`figures`] and [`embed`].
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
/// As [`figures`] and [`pixels`].
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

/// The encoder of a run with the weights it started from, random or pretrained, and its variables.
///
/// # Errors
/// Pretrained weights that are not there any more.
pub(crate) fn encoder_before(
    config: &PretrainConfig,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<(Backbone, Parameters)> {
    let parameters = Parameters::new(config.seed);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let encoder = Backbone::new(&config.encoder, vb)?.on(compute.device().cloned());
    if !config.weights.source.is_empty() {
        let weights = open_weights(&config.weights.source, observer)?;
        load_start(config, &parameters, &weights)?;
    }
    Ok((encoder, parameters))
}

/// Figures of the encoder before training as those of the start and of the untrained encoder, of which a run has one.
pub(crate) fn named(config: &PretrainConfig, before: Figures) -> [Option<Figures>; 2] {
    match config.is_pretrained() {
        true => [Some(before), None],
        false => [None, Some(before)],
    }
}

pub(crate) fn all(dataset: &Arc<dyn Dataset>) -> Vec<usize> {
    (0..dataset.len()).collect()
}

/// All figures of `eval.json`, and what a person should know about them.
///
/// # Errors
/// Features that are not finite, or a tensor operation that fails.
pub(crate) fn evaluate(
    config: &PretrainConfig,
    (networks, compute): (&Trained<'_>, &Compute),
    splits: &Splits,
    observer: &mut dyn Observer,
) -> Result<(Evaluation, Vec<String>)> {
    let (train, (judged_on, test)) = (&splits.train, JudgedOn::choose(splits));
    observer.on_phase("evaluating the trained encoder");
    let (sight, encoder) = (Sight::of(config), networks.encoder);
    let train_features = embed(encoder, train, &all(train), &sight)?;
    let test_features = embed(encoder, test, &all(test), &sight)?;
    let (trained, single_image_queries) =
        figures(config, train_features.as_ref(), test_features.as_ref())?;
    let labelled = single_image_queries.is_some();
    let mut warnings = warnings(
        judged_on,
        &train_features,
        &test_features,
        single_image_queries,
    );
    let labels = |images: &Option<Embedded>| -> Vec<u32> {
        let labels = images.as_ref().and_then(|images| images.labels.clone());
        labels.unwrap_or_default()
    };
    let lacking = lacking(
        &labels(&train_features),
        &labels(&test_features),
        test.classes(),
    );
    if !lacking.is_empty() {
        warnings.push(format!(
            "warning: evaluation: no figures of kNN and linear probe: there are no training images of these classes of the {} images: {}",
            judged_on.name(),
            shown(&lacking.join(", "))
        ));
    }
    if labelled && judged_on == JudgedOn::Validation {
        warnings.push(format!(
            "warning: evaluation: there are no test images with labels; figures are of the {} validation images, by which the best checkpoint is chosen",
            test.len()
        ));
    }
    let screened = match networks.screening {
        Some(screening) if labelled => {
            observer.on_phase("evaluating screened features");
            let train = embed_screened(encoder, screening, train, &all(train), &sight)?;
            let test = embed_screened(encoder, screening, test, &all(test), &sight)?;
            Some(figures(config, train.as_ref(), test.as_ref())?.0)
        }
        _ => None,
    };
    let (mut before, mut pixels) = (Figures::default(), Figures::default());
    let mut against = None;
    if labelled || config.is_pretrained() {
        observer.on_phase(match config.is_pretrained() {
            true => "evaluating the start",
            false => "evaluating the untrained encoder",
        });
        match encoder_before(config, compute, observer) {
            Ok((start, _)) => {
                let start = start.freeze()?;
                let mut of_train = None;
                if labelled {
                    of_train = embed(&start, train, &all(train), &sight)?;
                    let of_test = embed(&start, test, &all(test), &sight)?;
                    before = figures(config, of_train.as_ref(), of_test.as_ref())?.0;
                }
                if config.is_pretrained() {
                    let both = [
                        (&start, of_train.as_ref()),
                        (encoder, train_features.as_ref()),
                    ];
                    against = against_start::by_knn(config, both, splits)?;
                    if against.is_none() {
                        let both = [&start, encoder];
                        against = against_start::by_views(config, both, splits, observer)?;
                    }
                }
            }
            // The weights may be gone by now; the other figures do not need them.
            Err(problem @ Error::Encoder(_)) => warnings.push(format!(
                "warning: evaluation: no figures of the weights it started from: {problem}"
            )),
            Err(problem) => return Err(problem),
        }
    }
    if labelled {
        observer.on_phase("evaluating pixels");
        pixels = pixel_figures(config, train, test)?;
    }
    let mut psnr = None;
    if let Some(decoder) = networks.decoder {
        observer.on_phase("reconstructing held-out images");
        psnr = reconstruction_psnr(config, encoder, decoder, train, test)?;
    }
    let parts = match networks.trainer {
        Some(trainer) => part_hits(config, trainer, test),
        None => Ok(None),
    };
    let parts = match parts {
        Ok(parts) => parts,
        // Such as maps of a single place, which lie on the parts wherever they are.
        Err(Error::Evaluation(problem @ fgvr_eval::Error::Nothing { .. })) => {
            warnings.push(format!(
                "warning: evaluation: no hits of the parts: {problem}"
            ));
            None
        }
        Err(problem) => return Err(problem),
    };
    let [start, untrained] = named(config, before);
    let evaluation = Evaluation {
        trained,
        screened,
        start,
        untrained,
        against_start: against,
        pixels,
        psnr,
        parts,
        classes: labelled.then(|| test.classes().len()),
        train_images: train.len(),
        judged_on,
        test_images: match judged_on {
            JudgedOn::Test => test.len(),
            JudgedOn::Validation => 0,
        },
        validation_images: match judged_on {
            JudgedOn::Test => 0,
            JudgedOn::Validation => test.len(),
        },
        single_image_queries,
        data: splits.found.clone(),
        device: compute.name().to_owned(),
    };
    Ok((evaluation, warnings))
}

fn warnings(
    judged_on: JudgedOn,
    train: &Option<Embedded>,
    test: &Option<Embedded>,
    single: Option<usize>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let judged = judged_on.name();
    for (split, features) in [("training", train), (judged, test)] {
        match features {
            None => warnings.push(format!("warning: evaluation: there are no {split} images")),
            Some(Embedded { unreadable: 0, .. }) => {}
            Some(Embedded { unreadable, .. }) => warnings.push(format!(
                "warning: evaluation: {unreadable} {split} images cannot be read and are left out"
            )),
        }
    }
    if let Some(single) = single.filter(|n| *n > 0) {
        warnings.push(format!(
            "warning: retrieval: {single} {judged} images are the only ones of their class and ask no query"
        ));
    }
    warnings
}
