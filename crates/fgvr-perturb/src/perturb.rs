//! Moves the masked dimensions of features.

use candle_core::{Device, Result, Tensor, bail};

use crate::RandomKey;
use crate::draws::{normals, partners};
use crate::values::{expect_dims, expect_images, finite, rows_channels_and_places};

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
    /// The least that gaussian noise moves a masked dimension, in units of its standard deviation (s
    /// included): see [`perturb`]. 0 lets any draw stand, however small.
    ///
    /// # Design choice
    /// Our reading of the diversity regulariser of AFHN (CVPR 2020), which keeps a generator from
    /// answering different noise with nearly the same features. There is no generator to train here, so
    /// the noise itself is kept from vanishing.
    pub min_change: f64,
}

impl NoiseConfig {
    /// Checks what a configuration file can get wrong.
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [("scale", self.scale), ("min_change", self.min_change)] {
            if !(value.is_finite() && value >= 0.) {
                bail!("perturb: the configured {name} is {value}, expected a finite value >= 0");
            }
        }
        if self.min_change > 0. && self.kind == Noise::Swap {
            bail!(
                "perturb: min_change is {}, expected 0 with swap, which takes another image's values; set kind = gaussian",
                self.min_change
            );
        }
        Ok(())
    }
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            scale: 1.,
            kind: Noise::Gaussian,
            floor_at_median: true,
            non_negative: true,
            min_change: 0.,
        }
    }
}

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
/// # Errors
/// Shapes that differ, values that are not finite, a mask that is neither 0 nor 1, a negative scale,
/// and [`Noise::Swap`] where the batch has no second image.
pub fn perturb(
    features: &Tensor,
    mask: &Tensor,
    scale: &Tensor,
    cfg: &NoiseConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<Tensor> {
    const OP: &str = "perturb";
    let [n, c, places] = rows_channels_and_places(OP, "features", features)?;
    expect_dims(OP, "mask", mask, &[n, c])?;
    expect_dims(OP, "scale", scale, &[c])?;
    expect_images(OP, images, n)?;
    cfg.validate()?;
    let values = finite(OP, "features", features)?;
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
    // Drawn for unmasked channels too, so that the mask does not shift the stream.
    let (noise, partners) = match cfg.kind {
        Noise::Gaussian => (normals(key, images, c), Vec::new()),
        Noise::Swap => (Vec::new(), partners(key, images)?),
    };
    let mut out = values.clone();
    for (at, row) in out.chunks_exact_mut(c * places).enumerate() {
        let mask = &mask[at * c..][..c];
        let channels = row.chunks_exact_mut(places).zip(mask);
        match cfg.kind {
            Noise::Gaussian => {
                let noise = &noise[at * c..][..c];
                for (((channel, masked), step), eps) in channels.zip(&step).zip(noise) {
                    if *masked == 1. {
                        let change = step * at_least(cfg.min_change, *eps, *step, channel, lowest);
                        for value in channel {
                            *value = (*value + change).max(lowest);
                        }
                    }
                }
            }
            Noise::Swap => {
                let other = values[partners[at] * c * places..].chunks_exact(places);
                for ((channel, masked), other) in channels.zip(other) {
                    if *masked == 1. {
                        for (value, other) in channel.iter_mut().zip(other) {
                            *value = other.max(lowest);
                        }
                    }
                }
            }
        }
    }
    // f64 holds every value of the smaller types, so the way there and back changes no bit.
    Tensor::from_vec(out, features.shape(), &Device::Cpu)?
        .to_dtype(features.dtype())?
        .to_device(features.device())
}

/// `eps`, changed as far as `least` asks: see [`perturb`].
fn at_least(least: f64, eps: f64, step: f64, channel: &[f64], lowest: f64) -> f64 {
    let eps = match eps.abs() < least {
        true => least.copysign(eps),
        false => eps,
    };
    let moved = |value: &f64| ((value + step * eps).max(lowest) - value).abs();
    let mean = channel.iter().map(moved).sum::<f64>() / channel.len() as f64;
    // Not by the last bits of a sum.
    match mean < least * step * (1. - 1e-6) {
        true => eps.abs(),
        false => eps,
    }
}

/// Standard deviation of the noise by channel.
fn steps(sigma: &[f64], cfg: &NoiseConfig) -> Result<Vec<f64>> {
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
