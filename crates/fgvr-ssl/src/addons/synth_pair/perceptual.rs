//! The perceptual loss of the reconstruction, for the decoder alone.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, bail};
use fgvr_nn::{Decoder, Encoder, NormMode, ParameterGradients};

use crate::losses::info_nce::scalar;

/// L_P = mean over values and views of (f(d(h)) - f(x))^2, f the map of the encoder as it is now, with its
/// weights held constant; after arXiv:1603.08155. Its gradient, times `weight`, joins `gradients`, those of
/// the decoder; nothing else gets any. `maps` are f(x) (N, C, h, w), one a view, and `h` stands one view
/// under the other.
///
/// # Design choice
/// The decoder runs once more for this, so that the gradient that L_R sends to the encoder stays that of
/// L_R. Each view's reconstructions are a batch of their own for batch norm, as the views are, and leave the
/// running statistics as they are.
pub(super) fn perceptual(
    encoder: &dyn Encoder,
    decoder: &dyn Decoder,
    h: &Tensor,
    maps: &[Tensor],
    weight: f64,
    gradients: &mut ParameterGradients,
) -> Result<f64> {
    let (images, tape) = decoder.forward_train(h, NormMode::NoUpdate)?;
    let share = 1. / maps.len().max(1) as f64;
    let (mut sum, mut at_images, mut start) = (0., Vec::new(), 0);
    for map in maps {
        let n = map.dim(0)?;
        let seen = images.narrow(0, start, n)?.detach();
        start += n;
        let (features, back) = encoder.forward_train_to_images(&seen, NormMode::NoUpdate)?;
        let loss = (&features.map - map.detach())?.sqr()?.mean_all()?;
        sum += share * scalar(&loss)?;
        let leaves = (loss * (weight * share))?.backward()?;
        // What arrives at the encoder's own weights is dropped.
        let Some(gradient) = back.backward(&leaves, &mut ParameterGradients::default())? else {
            bail!("perceptual loss: the encoder's tape returned no gradient of its images");
        };
        at_images.push(gradient);
    }
    let mut leaves = GradStore::default();
    leaves.insert(&images, Tensor::cat(&at_images, 0)?);
    tape.backward(&leaves, gradients)?;
    Ok(sum)
}
