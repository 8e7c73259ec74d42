//! The embedder of what a run starts from.

use super::Embedder;
use crate::start::encoder_before;
use crate::view::Sight;
use crate::{Compute, Observer, PretrainConfig, Result, finite};

impl Embedder {
    /// The encoder that a run with these settings starts from, random or pretrained, which sees photos as the run's
    /// evaluation does: to the bit what training at a rate of 0 leaves.
    ///
    /// # Errors
    /// Weights that cannot be opened or do not fit.
    pub(crate) fn of_start(
        config: &PretrainConfig,
        compute: &Compute,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (encoder, parameters) = encoder_before(config, compute, observer)?;
        Ok(Self {
            encoder: encoder.freeze()?,
            sight: Sight::of(config),
            data: config.data.clone(),
            config: config.encoder.clone(),
            parameters,
            step: None,
            adaptation: None,
            origin: config.start(),
            not_finite: finite::OF_WEIGHTS,
        })
    }
}
