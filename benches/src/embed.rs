//! Images to features, as a user of a trained encoder does it.

use std::hint::black_box;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use fgvr_encoder::{Backbone, FrozenBackbone};
use fgvr_nn::Parameters;

use crate::case::{Case, Size};
use crate::place::Place;
use crate::random;

/// An encoder and a batch that stays the same.
pub(crate) struct Embed {
    encoder: FrozenBackbone,
    images: Tensor,
    batch: usize,
}

impl Embed {
    pub(crate) fn new(size: Size, place: &Place) -> Result<Self> {
        let parameters = Parameters::new(0);
        let encoder = Backbone::new(
            &size.encoder()?,
            parameters.builder(DType::F32, &Device::Cpu),
        )?;
        Ok(Self {
            encoder: encoder.on(place.compute.device().cloned()).freeze()?,
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
        black_box(self.encoder.embed(&self.images)?);
        Ok(())
    }
}
