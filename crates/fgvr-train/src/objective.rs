//! The networks and losses that the settings of a run ask for, without what trains them.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use fgvr_decoder::{ConvDecoder, DecoderConfig, DecoderInput};
use fgvr_encoder::{Backbone, Positions};
use fgvr_nn::optim::AdamConfig;
use fgvr_nn::{FrozenVariables, Parameters, PartlyFrozen};
use fgvr_perturb::FeatureBank;
use fgvr_ssl::{
    Addon, AddonConfig, AddonParts, Base, BaseConfig, DecoderNetwork, Network, NormedBy, Parts,
    RunLength, Space,
};

use crate::checkpoint::under;
use crate::config::PretrainConfig;
use crate::optimizer::frozen_of_trunk;
use crate::{Compute, Result};

/// A transformer's position embedding, by timm's name.
const POSITIONS: &str = "pos_embed";

/// Under what the base is saved.
pub(crate) const OBJECTIVE: &str = "objective";

/// Encoder, base and add-ons.
pub(crate) struct Objective {
    /// The online encoder, over the same variables as the base's.
    pub(crate) encoder: Backbone,
    pub(crate) encoder_parameters: Parameters,
    pub(crate) base: Box<dyn Base>,
    pub(crate) addons: Vec<Box<dyn Addon + Send>>,
}

impl Objective {
    /// Networks of random weights with `base` on them, and what `start` gave for the encoder's variables; `teacher` has a row
    /// for each training image.
    ///
    /// # Errors
    /// Settings that do not fit together.
    pub(crate) fn new<R>(
        config: &PretrainConfig,
        base: &dyn BaseConfig,
        run: RunLength,
        (compute, teacher): (&Compute, Option<&Tensor>),
        start: impl FnOnce(&Parameters) -> Result<R>,
    ) -> Result<(Self, R)> {
        let build = |parameters: &Parameters| {
            let vb = parameters.builder(DType::F32, &Device::Cpu);
            let encoder = Backbone::new(&config.encoder, vb)?;
            if let Some(device) = compute.device() {
                parameters.to_device(device)?;
            }
            candle_core::Result::Ok(encoder.on(compute.device().cloned()))
        };
        let encoder_parameters = Parameters::new(config.seed);
        let encoder = build(&encoder_parameters)?;
        // A base copies these to the network that follows them.
        let started = start(&encoder_parameters)?;
        let frozen = frozen(config, &encoder_parameters)?;
        let mut online = Some(encoder_parameters.clone());
        let mut network = || {
            let fresh = || Parameters::new(config.seed);
            let parameters = online.take().unwrap_or_else(fresh);
            // Also the network that follows, whose features would drift from the online ones otherwise.
            let encoder = PartlyFrozen::new(build(&parameters)?, frozen.clone());
            let encoder = NormedBy::new(encoder, config.optimizer.trunk_norm);
            let network = Network {
                encoder,
                parameters,
            };
            Ok(network.any())
        };
        let base = base.build(Parts {
            network: &mut network,
            seed: config.seed,
            run,
        })?;
        let objective = Self {
            encoder,
            encoder_parameters,
            base,
            addons: build_addons(config, run, (compute, teacher))?,
        };
        Ok((objective, started))
    }

    /// Takes over what a checkpoint holds of base and add-ons, but for what optimisers of add-ons' own step.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(crate) fn load_state(
        &mut self,
        tensors: &HashMap<String, Tensor>,
    ) -> candle_core::Result<()> {
        self.base.load_state(&under(tensors, OBJECTIVE))?;
        for addon in &mut self.addons {
            addon.load_state(&under(tensors, addon.kind().section()))?;
        }
        Ok(())
    }
}

/// Variables of the trunk that no step changes.
fn frozen(config: &PretrainConfig, parameters: &Parameters) -> Result<FrozenVariables> {
    let vars = parameters.trainable();
    let by_settings = frozen_of_trunk(&vars, &config.optimizer)?;
    let fixed = config.encoder.positions == Positions::Sincos;
    let of_steps = vars
        .iter()
        .filter(|(name, var)| by_settings.contains(var) || fixed && name.as_str() == POSITIONS);
    Ok(of_steps.map(|(_, var)| var.as_tensor()).collect())
}

/// A copy of the bank of past features, where an add-on keeps one.
///
/// # Errors
/// What a device says.
pub(crate) fn bank(addons: &[Box<dyn Addon + Send>]) -> Result<Option<FeatureBank>> {
    for addon in addons {
        if let Some(bank) = addon.bank()? {
            return Ok(Some(bank));
        }
    }
    Ok(None)
}

/// All that stands on the base, in its order.
pub(crate) fn build_addons(
    config: &PretrainConfig,
    run: RunLength,
    (compute, teacher): (&Compute, Option<&Tensor>),
) -> Result<Vec<Box<dyn Addon + Send>>> {
    let width = config.encoder.out_channels()?;
    let (size, blocks) = (config.data.size, config.decoder.channels);
    let shape = DecoderConfig::for_size(width, size, config.encoder.stride()?, blocks);
    let mut decoder = |space| decoder(config, &shape, space, compute);
    let build = |choices: Box<dyn AddonConfig>| {
        let parts = AddonParts {
            width,
            seed: config.seed,
            run,
            decoder: Some(&mut decoder),
            teacher,
        };
        choices.build(parts)
    };
    let addons = config.addon_configs()?.into_iter().map(build);
    Ok(addons.collect::<candle_core::Result<_>>()?)
}

/// A decoder of `space`, over variables of its own; `shape` fits the encoder and the image size.
fn decoder(
    config: &PretrainConfig,
    shape: &DecoderConfig,
    space: Space,
    compute: &Compute,
) -> candle_core::Result<DecoderNetwork> {
    let shape = DecoderConfig {
        hidden: config.decoder.hidden,
        residual: config.decoder.residual,
        input: match space {
            Space::Vector => DecoderInput::Vector,
            Space::Map => DecoderInput::Map,
        },
        ..shape.clone()
    };
    let parameters = Parameters::new(config.seed);
    let vb = parameters.builder(DType::F32, &Device::Cpu);
    let decoder = ConvDecoder::new(&shape, vb)?.on(compute.device().cloned());
    if let Some(device) = compute.device() {
        parameters.to_device(device)?;
    }
    Ok(DecoderNetwork {
        decoder: Box::new(decoder),
        parameters,
        adam: AdamConfig::default(),
        learning_rate: config.optimizer.decoder_lr,
    })
}
