//! Images to features, as a user of a trained encoder does it.

use std::hint::black_box;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use fgvr_encoder::{Backbone, FrozenBackbone};
use fgvr_nn::{Encoder, NormMode, Parameters};

use crate::case::{Case, Size};
use crate::place::Place;
use crate::random;

/// An encoder and a batch that stays the same.
pub(crate) struct Embed {
    encoder: Network,
    images: Tensor,
    batch: usize,
}

enum Network {
    Frozen(FrozenBackbone),
    /// With running statistics.
    OnDevice(Backbone),
}

impl Embed {
    pub(crate) fn new(size: Size, place: &Place) -> Result<Self> {
        let parameters = Parameters::new(0);
        let encoder = Backbone::new(
            &size.encoder()?,
            parameters.builder(DType::F32, &Device::Cpu),
        )?;
        Ok(Self {
            encoder: match place.compute.device() {
                None => Network::Frozen(encoder.freeze()?),
                device => Network::OnDevice(encoder.on(device.cloned())),
            },
            images: random::images(size.batch, size.side, 0)?,
            batch: size.batch,
        })
    }
}

impl Case for Embed {
    fn images(&self) -> usize {
        self.batch
    }

    fn step(&mut self) -> Result<()> {
        black_box(match &self.encoder {
            Network::Frozen(encoder) => encoder.embed(&self.images)?,
            Network::OnDevice(encoder) => encoder.features(&self.images, NormMode::Eval)?.pooled,
        });
        Ok(())
    }
}
