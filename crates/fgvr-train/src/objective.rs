//! The networks and losses that the settings of a run ask for, without what trains them.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use fgvr_decoder::{DecoderConfig, DecoderInput};
use fgvr_encoder::Backbone;
use fgvr_nn::Parameters;
use fgvr_ssl::{Addon, AddonParts, Base, Network, NormedBy, Parts, RunLength, Space, SynthPair};

use crate::checkpoint::under;
use crate::config::PretrainConfig;
use crate::{Compute, Result};

/// Encoder, base, synthesised pairs and add-ons.
pub(crate) struct Objective {
    /// The online encoder, over the same variables as the base's.
    pub(crate) encoder: Backbone,
    pub(crate) encoder_parameters: Parameters,
    pub(crate) base: Box<dyn Base>,
    pub(crate) synthpair: SynthPair,
    pub(crate) addons: Vec<Box<dyn Addon + Send>>,
}

impl Objective {
    /// A network of random weights, for a training split of `images` images, and what `start` gave for the encoder's variables.
    ///
    /// # Errors
    /// Settings that do not fit together.
    pub(crate) fn new<R>(
        config: &PretrainConfig,
        images: usize,
        compute: &Compute,
        start: impl FnOnce(&Parameters) -> Result<R>,
    ) -> Result<(Self, R)> {
        let mut synthpair = config.synthpair.clone();
        config.arm.apply(&mut synthpair);
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
        let width = config.encoder.out_channels()?;
        let mut online = Some(encoder_parameters.clone());
        let mut network = || {
            let fresh = || Parameters::new(config.seed);
            let parameters = online.take().unwrap_or_else(fresh);
            // Also the network that follows, whose features would drift from the online ones otherwise.
            let encoder = NormedBy::new(build(&parameters)?, config.optimizer.trunk_norm);
            Ok(Network {
                encoder,
                parameters,
            })
        };
        let run = RunLength {
            steps: config.total_steps(images),
            steps_per_epoch: config.steps_per_epoch(images),
        };
        let base = config.base.build(
            &config.base_settings(images),
            Parts {
                network: &mut network,
                seed: config.seed,
                run,
            },
        )?;
        let parts = AddonParts {
            width,
            seed: config.seed,
            run,
        };
        let settings = config.addon_settings();
        let build = |kind: &fgvr_ssl::AddonKind| kind.build(&settings, parts);
        let addons = config.addons.iter().map(build);
        let addons = addons.collect::<candle_core::Result<Vec<_>>>()?;
        let objective = Self {
            encoder,
            encoder_parameters,
            base,
            synthpair: SynthPair::new(&synthpair, width)?,
            addons,
        };
        Ok((objective, started))
    }

    /// Takes over what a checkpoint holds of base, pairs and add-ons.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(crate) fn load_state(
        &mut self,
        tensors: &HashMap<String, Tensor>,
    ) -> candle_core::Result<()> {
        self.base.load_state(&under(tensors, "objective"))?;
        self.synthpair.load_state(&under(tensors, "synthpair"))?;
        for addon in &mut self.addons {
            addon.load_state(&under(tensors, addon.kind().section()))?;
        }
        Ok(())
    }
}

/// The decoder that fits the encoder and the image size.
pub(crate) fn decoder_config(config: &PretrainConfig) -> Result<DecoderConfig> {
    Ok(DecoderConfig {
        hidden: config.decoder.hidden,
        residual: config.decoder.residual,
        input: match config.synthpair.space {
            Space::Vector => DecoderInput::Vector,
            Space::Map => DecoderInput::Map,
        },
        ..DecoderConfig::for_size(
            config.encoder.out_channels()?,
            config.data.size,
            config.encoder.stride()?,
            config.decoder.channels,
        )
    })
}
