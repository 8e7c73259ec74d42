//! Moves the masked dimensions of pooled features.

use candle_core::{Device, Result, Tensor, bail};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::RandomKey;
use crate::key::Purpose;
use crate::values::{expect_dims, expect_images, finite, rows_and_channels};

/// What takes the place of masked entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Noise {
    /// Normal noise in units of the channel's standard deviation is added.
    #[default]
    Gaussian,
    /// All masked entries of an image are those of one other image of the batch, drawn at random:
    /// each entry stays within its channel's distribution. The scale is not used.
    Swap,
}

/// How much, and which, noise.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct NoiseConfig {
    /// s: standard deviation of the noise in units of the channel's, >= 0.
    pub scale: f64,
    /// The kind of noise.
    pub kind: Noise,
    /// Let no channel's standard deviation count as less than the median over channels: noise at a
    /// low-variance channel's own scale would be invisible.
    pub floor_at_median: bool,
    /// Keep the result at 0 or above, as features after a ReLU are; off for features of either sign,
    /// such as a vision transformer's.
    pub non_negative: bool,
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            scale: 1.,
            kind: Noise::Gaussian,
            floor_at_median: true,
            non_negative: true,
        }
    }
}

/// Perturbed features (N, C): `max(0, h + s * max(sigma_c, median sigma) * eps)` where `mask` is 1, and
/// `h` itself, bit for bit, where it is 0; without the maximum where the configuration says so. Type and device are those of `pooled`; the result carries no
/// gradient.
///
/// `pooled` (N, C) are the features h (>= 0 after a ReLU; the maximum keeps the result in that range),
/// `mask` (N, C) is 0 or 1, `scale` (C) is sigma, the standard deviation of the un-normalised features
/// ([`crate::FeatureBank::std`]). `eps` depends on (seed, step, image, channel) only: not on the mask, nor
/// on the image's place in the batch.
///
/// # Errors
/// Shapes that differ, values that are not finite, a mask that is neither 0 nor 1, a negative scale,
/// and [`Noise::Swap`] where the batch has no second image.
pub fn perturb(
    pooled: &Tensor,
    mask: &Tensor,
    scale: &Tensor,
    cfg: &NoiseConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<Tensor> {
    const OP: &str = "perturb";
    let (n, c) = rows_and_channels(OP, "pooled", pooled)?;
    expect_dims(OP, "mask", mask, &[n, c])?;
    expect_dims(OP, "scale", scale, &[c])?;
    expect_images(OP, images, n)?;
    let features = finite(OP, "pooled", pooled)?;
    let mask = finite(OP, "mask", mask)?;
    if let Some(value) = mask.iter().find(|m| **m != 0. && **m != 1.) {
        bail!("{OP}: mask holds {value}, expected 0 or 1");
    }
    let step = steps(&finite(OP, "scale", scale)?, cfg)?;

    let lowest = if cfg.non_negative {
        0.
    } else {
        f64::NEG_INFINITY
    };
    let mut out = features.clone();
    for (at, row) in out.chunks_exact_mut(c).enumerate() {
        let mask = &mask[at * c..][..c];
        match cfg.kind {
            Noise::Gaussian => {
                let mut rng = key.rng(images[at], Purpose::Gaussian);
                for ((value, masked), step) in row.iter_mut().zip(mask).zip(&step) {
                    // Drawn for unmasked channels too, so that the mask does not shift the stream.
                    let eps: f64 = StandardNormal.sample(&mut rng);
                    if *masked == 1. {
                        *value = (*value + step * eps).max(lowest);
                    }
                }
            }
            Noise::Swap => {
                let other = partner(at, images, key)?;
                let other = &features[other * c..][..c];
                for ((value, masked), other) in row.iter_mut().zip(mask).zip(other) {
                    if *masked == 1. {
                        *value = other.max(lowest);
                    }
                }
            }
        }
    }
    // f64 holds every value of the smaller types, so the way there and back changes no bit.
    Tensor::from_vec(out, (n, c), &Device::Cpu)?
        .to_dtype(pooled.dtype())?
        .to_device(pooled.device())
}

/// Standard deviation of the noise by channel.
fn steps(sigma: &[f64], cfg: &NoiseConfig) -> Result<Vec<f64>> {
    if !(cfg.scale.is_finite() && cfg.scale >= 0.) {
        bail!(
            "perturb: the configured scale is {}, expected a finite value >= 0",
            cfg.scale
        );
    }
    if let Some(channel) = sigma.iter().position(|s| *s < 0.) {
        bail!(
            "perturb: scale is {} at channel {channel}, expected a value >= 0",
            sigma[channel]
        );
    }
    let floor = if cfg.floor_at_median {
        median(sigma)
    } else {
        0.
    };
    Ok(sigma.iter().map(|s| cfg.scale * s.max(floor)).collect())
}

/// The middle value, or the mean of the two middle ones. `values` is not empty.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        0 => (values[half - 1] + values[half]) / 2.,
        _ => values[half],
    }
}

/// The row whose entries replace those of row `at`: drawn among the rows of other images in the order
/// of their indices, so that the batch's order does not matter.
fn partner(at: usize, images: &[u32], key: RandomKey) -> Result<usize> {
    let mut others: Vec<usize> = (0..images.len())
        .filter(|i| images[*i] != images[at])
        .collect();
    others.sort_by_key(|i| images[*i]);
    if others.is_empty() {
        bail!(
            "perturb: swap needs a second image in the batch, found {} of one image",
            images.len()
        );
    }
    let mut rng = key.rng(images[at], Purpose::Swap);
    Ok(others[rng.random_range(0..others.len() as u64) as usize])
}
