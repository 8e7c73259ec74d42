//! Perturbed features as tensors.

use candle_core::{Device, Result, Tensor, bail};

use super::values::{expect_dims, rows_channels_and_places, values};
use crate::perturb::{OP, of_values};
use crate::values::finite;
use crate::{NoiseConfig, RandomKey};

/// Perturbed features: `max(0, h + s * max(sigma_c, median sigma) * eps)` where `mask` is 1, and `h` itself,
/// bit for bit, where it is 0; without the maximum where the configuration says so. Shape, type and device
/// are those of `features`; the result carries no gradient.
///
/// `features` are pooled ones (N, C) or a map (N, C, h, w): h >= 0 after a ReLU, and the maximum keeps the
/// result in that range. All places of a channel move by the same draw, so that the mean of a perturbed
/// map is the perturbed mean, but for the maximum. With swap the other image's whole channel is taken.
/// `mask` (N, C) is 0 or 1, `scale` (C) is sigma, the standard deviation of the un-normalised features
/// ([`crate::FeatureBank::std`]). `eps` depends on (seed, step, image, channel) only: not on the mask, nor
/// on the image's place in the batch.
///
/// With `min_change` m > 0, |eps| is raised to m where it is less; and where the maximum leaves less than m
/// standard deviations of a change (mean over places), the noise is added rather than subtracted. Every
/// masked dimension then moves by at least m.
///
/// [`slices::perturb`](crate::slices::perturb) is the same on plain values.
///
/// # Errors
/// Shapes that differ, values that are not finite, a mask that is neither 0 nor 1, a negative scale,
/// and [`Noise::Swap`](crate::Noise::Swap) where the batch has no second image.
pub fn perturb(
    features: &Tensor,
    mask: &Tensor,
    scale: &Tensor,
    cfg: &NoiseConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<Tensor> {
    let shape = rows_channels_and_places(OP, "features", features)?;
    let [n, c, _] = shape;
    expect_dims(OP, "mask", mask, &[n, c])?;
    expect_dims(OP, "scale", scale, &[c])?;
    let marks = values(mask)?;
    finite(OP, "mask", &marks, c, 1)?;
    if let Some(value) = marks.iter().find(|m| **m != 0. && **m != 1.) {
        bail!("{OP}: mask holds {value}, expected 0 or 1");
    }
    let mask: Vec<bool> = marks.into_iter().map(|m| m == 1.).collect();
    let (rows, scale) = (values(features)?, values(scale)?);
    let out = of_values(rows, shape, &mask, &scale, cfg, key, images)?;
    // f64 holds every value of the smaller types, so the way there and back changes no bit.
    Tensor::from_vec(out, features.shape(), &Device::Cpu)?
        .to_dtype(features.dtype())?
        .to_device(features.device())
}
