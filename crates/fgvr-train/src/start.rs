//! The weights that a run starts from, random or pretrained.

use std::path::Path;

use candle_core::{DType, Device};
use fgvr_encoder::Backbone;
use fgvr_encoder::weights::{LoadOptions, LoadReport, Weights, load};
use fgvr_nn::Parameters;

use crate::config::PretrainConfig;
use crate::weights_source::{advised, open_weights};
use crate::{Compute, Observer, Result};

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

/// Sets the variables of the network that `config` asks for from `weights`.
///
/// # Errors
/// Weights that do not fit the network.
pub(crate) fn load_start(
    config: &PretrainConfig,
    parameters: &Parameters,
    weights: &Weights,
) -> Result<LoadReport> {
    let options = LoadOptions {
        allow_missing: config.weights.allow_missing.clone(),
        allow_mismatch: config.weights.allow_mismatch.clone(),
        encoder: Some(config.encoder.clone()),
    };
    load(parameters, weights, &options).map_err(|error| {
        advised(error, |names| {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("--set 'weights.allow_mismatch=[{}]'", names.join(", "))
        })
    })
}

/// Sets `config.weights.source` to the path by which a run remembers its weights, where they still are.
pub(crate) fn find_weights(config: &mut PretrainConfig, remembered: Option<&str>) {
    if let Some(path) = remembered.filter(|path| Path::new(path).exists()) {
        path.clone_into(&mut config.weights.source);
    }
}
