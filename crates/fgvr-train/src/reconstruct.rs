//! How well the decoder reconstructs images it was not trained on.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use fgvr_data::Dataset;
use fgvr_decoder::MeanImage;
use fgvr_encoder::FrozenBackbone;
use fgvr_nn::{Decoder, NormMode};
use fgvr_ssl::Space;
use serde::Serialize;

use crate::Result;
use crate::config::PretrainConfig;
use crate::embed::{all, explained, map_images};
use crate::view::Sight;

/// Peak signal-to-noise ratio in dB over pixels in [0, 1], from the mean squared error over all
/// images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Psnr {
    /// That of the decoder's reconstructions of held-out images.
    pub held_out: f64,
    /// That of the mean training image, taken for each held-out image.
    pub mean_image: f64,
}

/// PSNR of reconstructions of `held_out`, beside that of the mean of `train`; `None` without a
/// readable image in either.
///
/// # Errors
/// Networks that do not fit the image size.
pub(crate) fn reconstruction_psnr(
    config: &PretrainConfig,
    encoder: &FrozenBackbone,
    decoder: &dyn Decoder,
    train: &Arc<dyn Dataset>,
    held_out: &Arc<dyn Dataset>,
) -> Result<Option<Psnr>> {
    let sight = Sight::of(config);
    let normalisation = &config.normalisation;
    let mut mean = MeanImage::default();
    let seen = map_images(train, &all(train), &sight, |x| {
        mean.push(&normalisation.undo(x)?)?;
        Ok(Tensor::zeros((x.dim(0)?, 1), DType::F32, x.device())?)
    })?;
    if seen.is_none() {
        return Ok(None);
    }
    let mean = mean.image()?.unsqueeze(0)?; // (1, 3, H, W)
    let space = config.pairs().space;
    // One row an image: squared error of the reconstruction, and of the mean image.
    let errors = map_images(held_out, &all(held_out), &sight, |x| {
        let features = match space {
            Space::Vector => explained(encoder, x, encoder.embed(x))?,
            Space::Map => explained(encoder, x, encoder.features(x))?.map,
        };
        let reconstruction = decoder.generate(&features, NormMode::Eval)?;
        let x = normalisation.undo(x)?;
        let reconstruction = normalisation.undo(&reconstruction)?.clamp(0., 1.)?;
        let of = |guess: &Tensor| {
            x.broadcast_sub(guess)?
                .sqr()?
                .flatten_from(1)?
                .mean_keepdim(1)
        };
        Ok(Tensor::cat(&[of(&reconstruction)?, of(&mean)?], 1)?)
    })?;
    let Some(errors) = errors else {
        return Ok(None);
    };
    let errors: Vec<f64> = errors.features.to_dtype(DType::F64)?.mean(0)?.to_vec1()?;
    let decibels = |mean_squared_error: f64| -10. * mean_squared_error.log10();
    Ok(Some(Psnr {
        held_out: decibels(errors[0]),
        mean_image: decibels(errors[1]),
    }))
}
