//! All figures of a run's frozen networks beside honest baselines: `eval.json`.

use fgvr_data::check::watch;
use fgvr_data::{Found, Splits, shown};
use fgvr_encoder::FrozenBackbone;
use fgvr_eval::{JudgeSets, Judged};
use fgvr_nn::Decoder;
use fgvr_ssl::Screening;
use serde::Serialize;

use crate::against_start::AgainstStart;
use crate::compare_start::{by_knn, by_views};
use crate::config::PretrainConfig;
use crate::data::lacking;
use crate::embed::{Embedded, all, embed, embed_screened};
use crate::figures::{Figures, figures, named, pixel_figures};
use crate::judged_on::JudgedOn;
use crate::leaks::leak_warning;
use crate::parts::{MapSources, PartHits, part_hits};
use crate::protocols::run_protocols;
use crate::reconstruct::{Psnr, reconstruction_psnr};
use crate::start::encoder_before;
use crate::view::Sight;
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
    /// The trained encoder by the protocols of `evaluate.protocols.run`; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Judged>,
    /// The encoder before training by the same protocols.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols_before: Option<Judged>,
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
    /// The split that the judged images are from.
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

/// The frozen networks of a run, and what else its figures are made of.
pub(crate) struct Networks<'a> {
    pub(crate) encoder: &'a FrozenBackbone,
    /// The map that weighs places, of a run with an add-on that has one.
    pub(crate) screening: Option<&'a Screening>,
    /// Absent for arms without a decoder.
    pub(crate) decoder: Option<&'a dyn Decoder>,
    /// Needed on sets that know the parts of their images.
    pub(crate) maps: Option<MapSources<'a>>,
}

/// All figures of `eval.json`, and what a person should know about them.
///
/// # Errors
/// Features that are not finite, or a tensor operation that fails.
pub(crate) fn evaluate(
    config: &PretrainConfig,
    (networks, compute): (&Networks<'_>, &Compute),
    splits: &Splits,
    observer: &mut dyn Observer,
) -> Result<(Evaluation, Vec<String>)> {
    let (splits, leaks) = &watch(splits);
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
    warnings.extend(leak_warning(leaks, judged_on));
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
    let judging = Judging {
        config,
        sight: &sight,
        splits,
        judged_on,
    };
    let both = [train_features.as_ref(), test_features.as_ref()];
    let protocols = judging.run(encoder, both, "the trained encoder", observer)?;
    let (mut against, mut protocols_before) = (None, None);
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
                    let both = [of_train.as_ref(), of_test.as_ref()];
                    let name = "the encoder before training";
                    protocols_before = judging.run(&start, both, name, observer)?;
                }
                if config.is_pretrained() {
                    let both = [
                        (&start, of_train.as_ref()),
                        (encoder, train_features.as_ref()),
                    ];
                    against = by_knn(config, both, splits)?;
                    if against.is_none() {
                        let both = [&start, encoder];
                        against = by_views(config, both, splits, observer)?;
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
    let parts = match &networks.maps {
        Some(maps) => part_hits(config, maps, test),
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
        protocols,
        protocols_before,
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

/// What protocols are run on.
struct Judging<'a> {
    config: &'a PretrainConfig,
    sight: &'a Sight,
    splits: &'a Splits,
    judged_on: JudgedOn,
}

impl Judging<'_> {
    /// The protocols on features of training and judged images; validation images are embedded for it, where they are not
    /// those that are judged.
    fn run(
        &self,
        encoder: &FrozenBackbone,
        [train, test]: [Option<&Embedded>; 2],
        name: &str,
        observer: &mut dyn Observer,
    ) -> Result<Option<Judged>> {
        if self.config.evaluate.protocols.run.is_empty() {
            return Ok(None);
        }
        let labelled = |part: Option<&Embedded>| part.map_or(Ok(None), Embedded::embeddings);
        let (Some(train), Some(test)) = (labelled(train)?, labelled(test)?) else {
            return Ok(None);
        };
        let val = &self.splits.val;
        let validation = match self.judged_on {
            JudgedOn::Test => embed(encoder, val, &all(val), self.sight)?,
            JudgedOn::Validation => None,
        };
        let validation = labelled(validation.as_ref())?;
        let sets = JudgeSets {
            train: &train,
            validation: validation.as_ref(),
            test: &test,
        };
        run_protocols(&self.config.evaluate, sets, name, observer)
    }
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
