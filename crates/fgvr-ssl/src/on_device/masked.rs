//! Which dimensions are perturbed, and the features with those perturbed, on a device.

use std::collections::HashMap;

use candle_core::{Result, Tensor};
use fgvr_gradcam::Importance;
use fgvr_nn::Device;
use fgvr_nn::cuda::Array;
use fgvr_nn::cuda::ops::bank::{Bank, Statistics};
use fgvr_nn::cuda::ops::importance::{self, importance};
use fgvr_nn::cuda::ops::mask::{self, non_discriminative_mask};
use fgvr_nn::cuda::ops::perturb::{self, perturb};
use fgvr_perturb::{
    Control, FeatureBank, MaskConfig, MaskRule, MaskStats, Noise, NoiseConfig, RandomKey, draws,
};

use crate::step::StepInput;
use crate::{SynthPairConfig, Variance, mask_at};

/// The bank of past features on a device, and what varies in it.
pub(crate) struct BankThere {
    device: Device,
    bank: Bank,
    capacity: usize,
    width: usize,
    statistics: Option<Statistics>,
}

impl BankThere {
    /// A copy of `bank` on `device`; with `pairs`, of one that holds two views of each image.
    pub(crate) fn new(device: &Device, bank: &FeatureBank, pairs: bool) -> Result<Self> {
        let (capacity, width) = (bank.capacity(), bank.width());
        let mut there = device.run(|m| Bank::new(m, capacity, width, pairs))?;
        let state = bank.state()?;
        let rows = |name: &str| match state.get(name) {
            Some(rows) => rows.flatten_all()?.to_vec1::<f32>().map(Some),
            None => Ok(None),
        };
        if let Some(first) = rows("features")? {
            let second = rows("second_features")?;
            let position = state["position"].to_vec1::<i64>()?[0] as usize;
            device.run(|m| {
                let first = Array::from_f32(m, &first)?;
                let second = second.map(|rows| Array::from_f32(m, &rows)).transpose()?;
                there.restore(m, &first, second.as_ref(), position)
            })?;
        }
        Ok(Self {
            device: device.clone(),
            bank: there,
            capacity,
            width,
            statistics: None,
        })
    }

    /// A copy on the CPU.
    pub(crate) fn fetch(&self) -> Result<FeatureBank> {
        let mut here = FeatureBank::new(self.capacity, self.width, true)?;
        let shape = (self.bank.len(), self.width);
        let rows = |rows: &Array| {
            let mut rows = self.device.values(rows)?;
            rows.truncate(shape.0 * shape.1);
            Tensor::from_vec(rows, shape, &candle_core::Device::Cpu)
        };
        let position = Tensor::new(&[self.bank.position() as i64], &candle_core::Device::Cpu)?;
        let mut state = HashMap::from([("position".to_owned(), position)]);
        if !self.bank.is_empty() {
            state.insert("features".to_owned(), rows(self.bank.rows())?);
            if let Some(seconds) = self.bank.seconds() {
                state.insert("second_features".to_owned(), rows(seconds)?);
            }
        }
        here.load_state(&state)?;
        Ok(here)
    }

    pub(crate) fn len(&self) -> usize {
        self.bank.len()
    }

    /// Stores features of real images (N, C); `seconds` in a bank of pairs.
    pub(crate) fn push(&mut self, rows: &Array, seconds: Option<&Array>) -> Result<()> {
        self.statistics = None;
        self.device.run(|m| self.bank.push(m, rows, seconds))
    }

    /// The fraction of channels that are zero throughout, once it is there.
    pub(crate) fn dead(&mut self) -> Result<f64> {
        let device = self.device.clone();
        let dead = device.values(&self.statistics()?.dead)?;
        Ok(dead.iter().map(|v| f64::from(*v)).sum::<f64>() / dead.len().max(1) as f64)
    }

    fn statistics(&mut self) -> Result<&Statistics> {
        let made = match self.statistics.take() {
            Some(made) => made,
            None => self.device.run(|m| self.bank.statistics(m, true))?,
        };
        Ok(self.statistics.insert(made))
    }
}

/// The mask, and the features it perturbs.
pub(crate) struct MaskedThere {
    /// M (N, C).
    pub(crate) mask: Array,
    counts: Array,
    /// h̃ (N, C), f32.
    pub(crate) features: Array,
}

impl MaskedThere {
    /// M and h̃ of features and their gradients, h and ∂L_C/∂h (N, C); `images` are theirs, u32 (N).
    pub(crate) fn new(
        cfg: &SynthPairConfig,
        bank: &mut BankThere,
        [h, dh]: [&Array; 2],
        images: &Array,
        input: &StepInput<'_>,
    ) -> Result<Self> {
        let (device, channels) = (bank.device.clone(), bank.width);
        let key = RandomKey {
            seed: input.seed,
            step: input.step,
        };
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
            let important = importance(m, h, dh, channels, kind)?;
            let drawn = Drawn::new(m, &rule, key, input.images, channels)?;
            let key = mask::Key {
                seed: key.seed,
                step: key.step,
            };
            non_discriminative_mask(m, variance, &important, images, drawn.config(&rule), key)
        })?;
        let drawn = noise(&device, &cfg.noise, key, input.images, channels)?;
        let features = device.run(|m| {
            let noise = match cfg.noise.kind {
                Noise::Gaussian => perturb::Noise::Gaussian(&drawn),
                Noise::Swap => perturb::Noise::Swap(&drawn),
            };
            let shape = perturb::Shape {
                images: input.images.len(),
                places: 1,
                channels,
            };
            let config = perturb::Config {
                scale: cfg.noise.scale,
                floor_at_median: cfg.noise.floor_at_median,
                non_negative: cfg.noise.non_negative,
                min_change: cfg.noise.min_change,
            };
            perturb(
                m,
                h,
                &made.mask,
                &statistics.deviation,
                shape,
                noise,
                config,
            )
        })?;
        Ok(Self {
            mask: made.mask,
            counts: made.counts,
            features,
        })
    }

    /// What the mask turned out to be, once it is there.
    pub(crate) fn stats(&self, device: &Device) -> Result<MaskStats> {
        let counts = device.run(|m| self.counts.to_u32(m))?;
        let mut sums = [0f64; 4];
        for row in counts.chunks_exact(4) {
            for (sum, count) in sums.iter_mut().zip(row) {
                *sum += f64::from(*count);
            }
        }
        let [masked, constant, both, either] = sums;
        let share = |part: f64, of: f64| if of == 0. { 0. } else { part / of };
        Ok(MaskStats {
            fraction: share(masked, self.mask.len() as f64),
            overlap: share(both, either),
            constant: share(constant, masked),
        })
    }
}

/// What the host draws for [`perturb`].
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
            device.run(|m| Array::from_f64(m, &normals))
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
        machine: &dyn fgvr_nn::cuda::Machine,
        rule: &MaskConfig,
        key: RandomKey,
        images: &[u32],
        channels: usize,
    ) -> fgvr_nn::cuda::Result<Self> {
        let order = match rule.control {
            Control::Random => {
                let orders = draws::orders(key, images, channels);
                Some(Array::from_u32(machine, &orders)?)
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
