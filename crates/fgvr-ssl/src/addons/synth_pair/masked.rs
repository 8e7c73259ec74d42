//! Which dimensions are perturbed, and the features with those perturbed.

use candle_core::{Result, Tensor, bail};
use fgvr_gradcam::importance;
use fgvr_nn::Device;
use fgvr_nn::cuda::Array;
use fgvr_perturb::{MaskStats, RandomKey, non_discriminative_mask_with_stats, perturb};

use super::along::{self, Along};
use super::bank::PlacedBank;
use super::masked_on_device;
use crate::step::StepInput;
use crate::{Rows, Space, SynthPairConfig, Values, Variance, mask_at};

/// Sets the draws for the second branch apart from those for the first.
const BRANCH: u64 = 0x6272_616e_6368;

/// The mask, and the features it perturbs.
pub(super) struct Masked {
    /// M (N, C).
    pub(super) mask: Rows,
    pub(super) stats: Stats,
    /// h̃ (N, C), or the perturbed map (N, C, h, w).
    pub(super) features: Values,
    /// Whether something was added to all of h, so that a gradient reaches h through every dimension; otherwise the masked ones are
    /// constants.
    pub(super) is_added: bool,
}

/// What the mask turned out to be.
#[derive(Clone)]
pub(super) enum Stats {
    Host(MaskStats),
    /// Counts of each row (N, 4), and the mask's values.
    Device(Device, Array, usize),
}

impl Stats {
    /// Once it is there.
    pub(super) fn value(&self) -> Result<MaskStats> {
        match self {
            Self::Host(stats) => Ok(*stats),
            Self::Device(device, counts, values) => {
                let counts = device.run(|m| counts.to_u32(m))?;
                Ok(masked_on_device::stats(&counts, *values))
            }
        }
    }
}

impl Masked {
    /// M and h̃ of a branch's features and their gradients, h and ∂L_C/∂h (N, C). What is perturbed is
    /// `subject`, h or the map (N, C, h, w); `basis` is that of [`along::basis`].
    pub(super) fn new(
        cfg: &SynthPairConfig,
        bank: &mut PlacedBank,
        [h, dh]: [&Rows; 2],
        subject: &Values,
        branch: usize,
        input: &StepInput<'_>,
        basis: Option<&Tensor>,
    ) -> Result<Self> {
        let key = RandomKey {
            seed: input.seed ^ (branch as u64 * BRANCH),
            step: input.step,
        };
        if cfg.along != Along::Channels {
            return along::perturbed(cfg, bank, subject, key, input, basis);
        }
        let bank = match (bank, h, dh) {
            (PlacedBank::Device(bank), Rows::Device(h), Rows::Device(dh)) => {
                return masked_on_device::mask(cfg, bank, [h, dh], subject, key, input);
            }
            (PlacedBank::Host(bank), ..) => bank,
            _ => bail!("synth pair: the bank is on a device, and the features are on the host"),
        };
        let (h, dh) = (h.to_host()?, dh.to_host()?);
        let importance = importance(&h, &dh, cfg.importance, Some(&bank.mean()?))?;
        let variance = match cfg.variance {
            Variance::Bank => bank.variance()?,
            Variance::Between => bank.between()?,
        };
        let rule = mask_at(cfg, input.step, input.total_steps);
        let (mask, stats) =
            non_discriminative_mask_with_stats(&variance, &importance, &rule, key, input.images)?;
        let before = match cfg.space {
            Space::Vector => h,
            Space::Map => subject.to_host()?,
        };
        let features = perturb(&before, &mask, &bank.std()?, &cfg.noise, key, input.images)?;
        Ok(Self {
            mask: Rows::Host(mask),
            stats: Stats::Host(stats),
            features: Values::Host(features).placed(subject.device())?,
            is_added: false,
        })
    }
}
