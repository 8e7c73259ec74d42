//! How the photos of a network from anyone's weights are found and seen: what comes with the weights, under settings.

use fgvr_data::DataConfig;
use fgvr_encoder::weights::Preprocessing;
use fgvr_encoder::{Architecture, Pooling};

use crate::config::{Layers, Use};
use crate::view::{Sight, fit};
use crate::{PretrainConfig, Result};

/// Images a forward pass.
const BATCH: usize = 32;

/// How photos are found and seen, and what is pooled.
pub(super) struct Seen {
    pub(super) sight: Sight,
    pub(super) config: PretrainConfig,
    /// What is pooled, if settings say so.
    pub(super) pooling: Option<Pooling>,
}

/// How photos are found and seen under `settings` over what comes with weights.
///
/// # Errors
/// A setting that is unknown or has no effect there.
pub(super) fn seen(preprocessing: &Preprocessing, settings: &[String]) -> Result<Seen> {
    // All photos of a folder in one split, where nothing else is asked for.
    let test_fraction = 0.;
    looked_at(preprocessing, test_fraction, settings, |_| Use::Embed)
}

/// The same for photos to judge features by, of which some are held out to be judged.
///
/// # Errors
/// A setting that is unknown or has no effect there.
pub(super) fn seen_to_judge(preprocessing: &Preprocessing, settings: &[String]) -> Result<Seen> {
    let test_fraction = DataConfig::default().test_fraction;
    // Here there is no decoder that is made for one size.
    let of_the_network = |setting: &str| {
        let path = setting.split('=').next().unwrap_or_default().trim();
        matches!(path, "data.size" | "encoder.pooling")
    };
    looked_at(
        preprocessing,
        test_fraction,
        settings,
        |setting| match of_the_network(setting) {
            true => Use::Embed,
            false => Use::Evaluate,
        },
    )
}

fn looked_at(
    preprocessing: &Preprocessing,
    test_fraction: f64,
    settings: &[String],
    purpose: impl Fn(&str) -> Use,
) -> Result<Seen> {
    let mut layers = Layers::default();
    layers.view(preprocessing)?;
    layers.set_value("data.val_fraction", 0.)?;
    layers.set_value("data.test_fraction", test_fraction)?;
    layers.set_value("evaluate.batch", BATCH as i64)?;
    let asked_for = |layers: &Layers| {
        ["evaluate.resize_ratio", "evaluate.squash"].map(|path| layers.get(path).cloned())
    };
    let brought = asked_for(&layers);
    for setting in settings {
        layers.set_for(purpose(setting), setting)?;
    }
    let config = layers.resolve_frozen()?;
    let mut sight = Sight::of(&config);
    if asked_for(&layers) == brought {
        sight.view.fit = fit(preprocessing, config.data.size);
    }
    let pooling = layers.get("encoder.pooling");
    let pooling = pooling.map(|_| config.encoder.pooling);
    Ok(Seen {
        sight,
        config,
        pooling,
    })
}

/// The architecture that the last of `settings` to do so names, and the other settings. It says what weights are of,
/// where their tensors leave that open.
///
/// # Errors
/// A name that no architecture has.
pub(super) fn told_architecture(
    settings: &[String],
) -> Result<(Option<Architecture>, Vec<String>)> {
    let name = |setting: &str| {
        let (path, value) = setting.split_once('=')?;
        (path.trim() == "encoder.architecture").then(|| value.trim().trim_matches('"').to_owned())
    };
    let told = settings.iter().rev().find_map(|setting| name(setting));
    let others = settings.iter().filter(|setting| name(setting).is_none());
    let told = told.map(|name| name.parse()).transpose()?;
    Ok((told, others.cloned().collect()))
}
