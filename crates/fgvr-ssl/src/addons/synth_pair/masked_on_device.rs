//! Which dimensions are perturbed, and the features with those perturbed, on a device.

use candle_core::{Result, bail};
use fgvr_gradcam::Importance;
use fgvr_nn::Device;
use fgvr_nn::cuda::ops::importance::{self, importance};
use fgvr_nn::cuda::ops::mask::{self, non_discriminative_mask};
use fgvr_nn::cuda::ops::perturb::{self, perturb};
use fgvr_nn::cuda::{Array, Machine};
use fgvr_perturb::{
    Control, MaskConfig, MaskRule, MaskStats, Noise, NoiseConfig, RandomKey, draws,
};

use super::bank::DeviceBank;
use super::masked::{Masked, Stats};
use crate::step::StepInput;
use crate::step::values::{DeviceRows, narrowed, wide};
use crate::{Rows, Space, SynthPairConfig, Values, Variance, mask_at};

/// [`Masked::new`] of features and their gradients (N, C) on a device.
pub(super) fn mask(
    cfg: &SynthPairConfig,
    bank: &mut DeviceBank,
    [h, dh]: [&DeviceRows; 2],
    subject: &Values,
    key: RandomKey,
    input: &StepInput<'_>,
) -> Result<Masked> {
    let (device, channels) = (bank.device.clone(), bank.width);
    let Values::Device(subject) = subject else {
        bail!("synth pair: expected what is perturbed on {device:?}");
    };
    let images = device.run(|m| Array::from_u32(m, input.images))?;
    let between = match cfg.variance {
        Variance::Bank => None,
        Variance::Between => Some(device.run(|m| bank.bank.between(m))?),
    };
    let statistics = bank.statistics()?;
    let variance = between.as_ref().unwrap_or(&statistics.variance);
    let kind = match cfg.importance {
        Importance::GradientTimesFeature => importance::Importance::GradientTimesFeature,
        Importance::Centred => importance::Importance::Centred(&statistics.mean),
        Importance::Gradient => importance::Importance::Gradient,
        Importance::Evidence => importance::Importance::Evidence,
    };
    let rule = mask_at(cfg, input.step, input.total_steps);
    let made = device.run(|m| {
        let important = importance(m, &h.array, &dh.array, channels, kind)?;
        let drawn = Drawn::new(m, &rule, key, input.images, channels)?;
        let key = mask::Key {
            seed: key.seed,
            step: key.step,
        };
        non_discriminative_mask(m, variance, &important, &images, drawn.config(&rule), key)
    })?;
    let drawn = noise(&device, &cfg.noise, key, input.images, channels)?;
    let [n, height, width, _] = subject.shape();
    let before = match cfg.space {
        // As they were before they took the type of maps.
        Space::Vector => h.array.clone(),
        Space::Map => wide(&device, subject)?,
    };
    let features = device.run(|m| {
        let noise = match cfg.noise.kind {
            Noise::Gaussian => perturb::Noise::Gaussian(&drawn),
            Noise::Swap => perturb::Noise::Swap(&drawn),
        };
        let shape = perturb::Shape {
            images: n,
            places: height * width,
            channels,
        };
        let config = perturb::Config {
            scale: cfg.noise.scale,
            floor_at_median: cfg.noise.floor_at_median,
            non_negative: cfg.noise.non_negative,
            min_change: cfg.noise.min_change,
        };
        let deviation = &statistics.deviation;
        perturb(m, &before, &made.mask, deviation, shape, noise, config)
    })?;
    let features = narrowed(&device, &features, subject.shape())?;
    let values = made.mask.len();
    Ok(Masked {
        is_added: false,
        mask: Rows::on(&device, made.mask, h.shape),
        stats: Stats::Device(device, made.counts, values),
        features: Values::Device(features),
    })
}

/// What the counts of a mask of so many values say.
pub(super) fn stats(counts: &[u32], values: usize) -> MaskStats {
    let mut sums = [0f64; 4];
    for row in counts.chunks_exact(4) {
        for (sum, count) in sums.iter_mut().zip(row) {
            *sum += f64::from(*count);
        }
    }
    let [masked, constant, both, either] = sums;
    let share = |part: f64, of: f64| if of == 0. { 0. } else { part / of };
    MaskStats {
        fraction: share(masked, values as f64),
        overlap: share(both, either),
        constant: share(constant, masked),
    }
}

/// What the host draws for [`perturb`]. It is drawn and sent while the device is still at the passes before.
fn noise(
    device: &Device,
    cfg: &NoiseConfig,
    key: RandomKey,
    images: &[u32],
    channels: usize,
) -> Result<Array> {
    match cfg.kind {
        Noise::Gaussian => {
            let normals = draws::normals(key, images, channels);
            device.run(|m| Array::send_f64(m, &normals))
        }
        Noise::Swap => {
            let rows = draws::partners(key, images)?;
            let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
            device.run(|m| Array::from_u32(m, &rows))
        }
    }
}

/// What the host draws or sorts for a mask.
struct Drawn {
    order: Option<Array>,
    by_batch: Option<Array>,
}

impl Drawn {
    fn new(
        machine: &dyn Machine,
        rule: &MaskConfig,
        key: RandomKey,
        images: &[u32],
        channels: usize,
    ) -> fgvr_nn::cuda::Result<Self> {
        let order = match rule.control {
            Control::Random => {
                let orders = draws::orders(key, images, channels);
                Some(Array::send_u32(machine, &orders)?)
            }
            Control::None | Control::Inverted => None,
        };
        let by_batch = match rule.per_sample {
            true => None,
            false => {
                let mut rows: Vec<u32> = (0..images.len() as u32).collect();
                rows.sort_by_key(|row| images[*row as usize]);
                Some(Array::from_u32(machine, &rows)?)
            }
        };
        Ok(Self { order, by_batch })
    }

    fn config(&self, rule: &MaskConfig) -> mask::Config<'_> {
        mask::Config {
            rho_variance: rule.rho_variance,
            rho_importance: rule.rho_importance,
            rule: match rule.rule {
                MaskRule::Union => mask::Rule::Union,
                MaskRule::Intersection => mask::Rule::Intersection,
                MaskRule::Variance => mask::Rule::Variance,
                MaskRule::Importance => mask::Rule::Importance,
                MaskRule::All => mask::Rule::All,
                MaskRule::None => mask::Rule::None,
            },
            control: match (rule.control, &self.order) {
                (Control::Random, Some(order)) => mask::Control::Random(order),
                (Control::Inverted, _) => mask::Control::Inverted,
                (Control::None | Control::Random, _) => mask::Control::None,
            },
            by_batch: self.by_batch.as_ref(),
        }
    }
}
