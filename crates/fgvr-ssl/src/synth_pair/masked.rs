//! Which dimensions are perturbed, and the features with those perturbed.

use candle_core::{Result, Tensor};
use fgvr_gradcam::importance;
use fgvr_perturb::{
    FeatureBank, MaskStats, RandomKey, non_discriminative_mask_with_stats, perturb,
};

use crate::step::StepInput;
use crate::{SynthPairConfig, Variance, mask_at};

/// Sets the draws for the second branch apart from those for the first.
const BRANCH: u64 = 0x6272_616e_6368;

/// The mask, and the features it perturbs.
pub(super) struct Masked {
    /// M (N, C).
    pub(super) mask: Tensor,
    pub(super) stats: MaskStats,
    /// h̃ (N, C), or the perturbed map (N, C, h, w).
    pub(super) features: Tensor,
}

/// M and h̃ of one branch's features, among those of all in h and ∂L_C/∂h (B*N, C). What is perturbed is
/// `subject`, h or the map (B*N, C, h, w).
pub(super) fn mask(
    cfg: &SynthPairConfig,
    bank: &FeatureBank,
    [h, dh]: [&Tensor; 2],
    subject: &Tensor,
    branch: usize,
    input: &StepInput<'_>,
) -> Result<Masked> {
    let n = input.images.len();
    let (h, dh) = (h.narrow(0, branch * n, n)?, dh.narrow(0, branch * n, n)?);
    let key = RandomKey {
        seed: input.seed ^ (branch as u64 * BRANCH),
        step: input.step,
    };
    let importance = importance(&h, &dh, cfg.importance, Some(&bank.mean()?))?;
    let variance = match cfg.variance {
        Variance::Bank => bank.variance()?,
        Variance::Between => bank.between()?,
    };
    let rule = mask_at(cfg, input.step, input.total_steps);
    let (mask, stats) =
        non_discriminative_mask_with_stats(&variance, &importance, &rule, key, input.images)?;
    let subject = subject.narrow(0, branch * n, n)?;
    let features = perturb(&subject, &mask, &bank.std()?, &cfg.noise, key, input.images)?;
    Ok(Masked {
        mask,
        stats,
        features,
    })
}
