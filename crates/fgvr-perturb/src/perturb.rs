//! Moves the masked dimensions of features.

use crate::draws::{normals, partners};
use crate::values::{expect_images, finite};
use crate::{Error, RandomKey};

pub(crate) const OP: &str = "perturb";

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
    /// s: standard deviation of the noise in units of the channel's, >= 0. By default 1.
    pub scale: f64,
    /// The kind of noise. By default [`Noise::Gaussian`].
    pub kind: Noise,
    /// Let no channel's standard deviation count as less than the median over channels: noise at a
    /// low-variance channel's own scale would be invisible. By default true.
    pub floor_at_median: bool,
    /// Keep the result at 0 or above, as features after a ReLU are (the default); to be turned off for features of
    /// either sign, such as a vision transformer's.
    pub non_negative: bool,
    /// The least that gaussian noise moves a masked dimension, in units of its standard deviation (s
    /// included): see [`slices::perturb`](crate::slices::perturb). 0, the default, lets any draw stand, however small.
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
    pub fn validate(&self) -> Result<(), Error> {
        let setting = |field, value, expected| Error::Setting {
            op: OP,
            field,
            value,
            expected,
        };
        for (field, value) in [
            ("the configured scale", self.scale),
            ("the configured min_change", self.min_change),
        ] {
            if !(value.is_finite() && value >= 0.) {
                return Err(setting(field, value, "a finite value >= 0"));
            }
        }
        if self.min_change > 0. && self.kind == Noise::Swap {
            return Err(setting(
                "min_change",
                self.min_change,
                "0 with swap, which takes another image's values; set kind = gaussian",
            ));
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

/// The perturbed features of `values` (N, C, places), with a mask (N, C) and a scale (C); lengths, but for that of
/// `images`, are the caller's care.
pub(crate) fn of_values(
    values: Vec<f64>,
    [n, c, places]: [usize; 3],
    mask: &[bool],
    scale: &[f64],
    cfg: &NoiseConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<Vec<f64>, Error> {
    expect_images(OP, images, n)?;
    cfg.validate()?;
    finite(OP, "features", &values, c, places)?;
    finite(OP, "scale", scale, c, 1)?;
    let step = steps(scale, cfg)?;

    let lowest = if cfg.non_negative {
        0.
    } else {
        f64::NEG_INFINITY
    };
    // Drawn for unmasked channels too, so that the mask does not shift the stream.
    let (noise, others) = match cfg.kind {
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
                    if *masked {
                        let change = step * at_least(cfg.min_change, *eps, *step, channel, lowest);
                        for value in channel {
                            *value = (*value + change).max(lowest);
                        }
                    }
                }
            }
            Noise::Swap => {
                let other = values[others[at] * c * places..].chunks_exact(places);
                for ((channel, masked), other) in channels.zip(other) {
                    if *masked {
                        for (value, other) in channel.iter_mut().zip(other) {
                            *value = other.max(lowest);
                        }
                    }
                }
            }
        }
    }
    Ok(out)
}

/// `eps`, changed as far as `least` asks.
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
fn steps(sigma: &[f64], cfg: &NoiseConfig) -> Result<Vec<f64>, Error> {
    if let Some(channel) = sigma.iter().position(|s| *s < 0.) {
        return Err(Error::Scale {
            value: sigma[channel],
            channel,
        });
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
