//! How hard is a labelled set? A supervised network above, pixels and an untrained network below.
//!
//! These figures frame what self-supervised features can be expected to reach; the built-in set's
//! nuisance strength was chosen with them (`docs/lookalikes.md`).

use std::sync::Arc;

use candle_core::{DType, Device};
use fgvr_data::{Dataset, Found, LoaderConfig, shown};
use fgvr_encoder::{Backbone, Positions};
use fgvr_nn::optim::{Sgd, SgdConfig};
use fgvr_nn::{NormMode, Parameters};
use serde::Serialize;

use crate::config::{OptimizerSettings, PretrainConfig};
use crate::data::{lacking_classes, open_data};
use crate::figures::{Figures, encoder_figures, named, pixel_figures};
use crate::labelled::{Classifying, LightViews};
use crate::learning_rate::learning_rate;
use crate::loader::enough_images;
use crate::start::encoder_before;
use crate::view::Sight;
use crate::{Compute, Error, Observer, Result};

/// Figures that frame a labelled set.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// Test accuracy of the network trained with labels.
    pub supervised_top1: f64,
    /// Frozen features of the pretrained weights that were given, if any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Figures>,
    /// Frozen features of random weights, where no others were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untrained: Option<Figures>,
    /// Raw pixels.
    pub pixels: Figures,
    /// Classes of the set.
    pub classes: usize,
    /// What was found where the data was opened.
    pub data: Found,
    /// Where the networks ran.
    pub device: String,
}

/// Trains `config.encoder` with labels for `epochs` and measures it beside the untrained network
/// and raw pixels. Views are lightly cropped and flipped; SGD with a cosine.
///
/// # Errors
/// A set without labels or without a test split; a precision that `compute` does not have.
pub fn calibrate(
    config: &PretrainConfig,
    epochs: u64,
    compute: &Compute,
    observer: &mut dyn Observer,
) -> Result<Calibration> {
    config.validate()?;
    compute.check(config.precision)?;
    let splits = open_data(config, observer)?;
    let problem = |problem: &str| Error::config("source", format!("{} {problem}", config.source));
    let classes = splits.train.classes().len();
    if classes == 0 {
        return Err(problem(
            "has no labels to calibrate with; put the images of each class into a folder of its own",
        ));
    }
    if classes == 1 {
        return Err(problem("has one class; to tell apart takes two or more"));
    }
    let Some(test) = splits.test.clone().filter(|test| !test.is_empty()) else {
        return Err(problem(
            "has no test images; add a folder test/, or, without folders for splits, raise data.test_fraction",
        ));
    };
    if test.label(0).is_none() {
        return Err(problem(
            "has test images without labels; put those of each class into a folder of its own",
        ));
    }
    let lacking = lacking_classes(&splits.train, &test);
    if !lacking.is_empty() {
        return Err(problem(&format!(
            "has nothing to train on of classes to test on: {}; take them out of the test images",
            shown(&lacking.join(", "))
        )));
    }
    enough_images(config, splits.train.len())?;
    if epochs == 0 {
        return Err(Error::config(
            "--supervised-epochs",
            "expected at least 1, found 0",
        ));
    }
    observer.on_message(&compute.line());
    observer.on_phase(match config.is_pretrained() {
        true => "pixels and the start",
        false => "pixels and the untrained network",
    });
    let (before, _) = encoder_before(config, compute, observer)?;
    let before = encoder_figures(config, &before, &splits.train, &test)?;
    let [start, untrained] = named(config, before);
    let pixels = pixel_figures(config, &splits.train, &test)?;
    observer.on_phase("training with labels");
    let sets = [&splits.train, &test];
    let supervised_top1 = train(config, epochs, compute, sets, classes, observer)?;
    Ok(Calibration {
        supervised_top1,
        start,
        untrained,
        pixels,
        classes,
        data: splits.found,
        device: compute.name().to_owned(),
    })
}

/// The share of `test` that the network tells right once it is trained on `dataset`.
fn train(
    config: &PretrainConfig,
    epochs: u64,
    compute: &Compute,
    [dataset, test]: [&Arc<dyn Dataset>; 2],
    classes: usize,
    observer: &mut dyn Observer,
) -> Result<f64> {
    let parameters = Parameters::new(config.seed);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let encoder = Backbone::new(&config.encoder, vb)?.on(compute.device().cloned());
    let model = Classifying::new((encoder, parameters), classes, config.seed, compute)?;
    let optimizer = OptimizerSettings {
        lr: 0.1 * config.loader.batch as f64 / 128.,
        warm_up: 0.1,
        ..config.optimizer.clone()
    };
    let sgd = SgdConfig {
        momentum: optimizer.momentum,
        weight_decay: 5e-4,
        exclude_norm_and_bias: true,
        ..SgdConfig::default()
    };
    let mut trained = model.parameters.trainable();
    if config.encoder.positions == Positions::Sincos {
        trained.remove("pos_embed");
    }
    trained.extend(model.of_head());
    let mut sgd = Sgd::new(trained, &sgd)?;
    let views = LightViews {
        size: config.data.size,
        normalisation: config.normalisation.clone(),
        settings: LoaderConfig {
            batch: config.loader.batch,
            seed: config.seed,
            prefetch_bytes: config.loader.prefetch_mib << 20,
            bad_image_budget: config.loader.bad_image_budget,
            threads: config.loader.threads,
            ..LoaderConfig::default()
        },
    };
    let total = epochs * (dataset.len() / config.loader.batch).max(1) as u64;
    model.train(
        views.of(dataset)?,
        (NormMode::Train, total),
        |gradients, number| {
            let lr = learning_rate(&optimizer, number, total);
            sgd.step(gradients, lr)?;
            Ok(lr)
        },
        |_, _| Ok(()),
        observer,
    )?;
    model.parameters.to_host()?;
    let hits = model.hits(
        test,
        &Sight::of(config),
        "training with labels diverged: take a smaller loader.batch, with which its learning rate falls, or \
         another seed",
    )?;
    let right = hits.iter().filter(|(_, hit)| *hit).count();
    Ok(right as f64 / hits.len().max(1) as f64)
}
