//! The pair of images: generated, augmented, and sent through the base.

use candle_core::{Result, Tensor};
use fgvr_nn::{Decoder, NormMode};
use rand::Rng;

use super::masked::Masked;
use crate::diagnostics::{Compared, PairDiagnostics};
use crate::shuffle::keyed_rng;
use crate::step::StepInput;
use crate::{Pass, SynthPairConfig};

/// Sets the draw of the pair's roles apart from other draws of the same (seed, step).
const ROLES: u64 = 0x726f_6c65;

/// Whether the roles of query and key are exchanged for this branch at this step.
pub(crate) fn swapped(cfg: &SynthPairConfig, input: &StepInput<'_>, branch: usize) -> bool {
    cfg.swap_roles && keyed_rng([input.seed, input.step, ROLES, branch as u64]).next_u32() % 2 == 1
}

/// The generated images, before and after their own augmentation.
pub(super) struct ImagePair {
    pub(super) masked: Masked,
    pub(super) original: Tensor,
    pub(super) perturbed: Tensor,
    pub(super) query: Tensor,
    pub(super) key: Tensor,
}

impl ImagePair {
    /// x̂ and x̃, each with its own augmentation, and who is the query. `reconstruction` holds x̂ of all
    /// branches.
    pub(super) fn new(
        cfg: &SynthPairConfig,
        decoder: &dyn Decoder,
        reconstruction: &Tensor,
        masked: Masked,
        branch: usize,
        input: &StepInput<'_>,
    ) -> Result<Self> {
        let n = input.images.len();
        let original = reconstruction.narrow(0, branch * n, n)?;
        let perturbed = decoder
            .generate(&masked.features, NormMode::NoUpdate)?
            .detach();
        let seen = match cfg.augment_pair {
            true => [
                (input.augment)(&original, 2 * branch as u64)?,
                (input.augment)(&perturbed, 2 * branch as u64 + 1)?,
            ],
            false => [original.clone(), perturbed.clone()],
        };
        let [first, second] = seen;
        let (query, key) = if swapped(cfg, input, branch) {
            (second, first)
        } else {
            (first, second)
        };
        Ok(Self {
            masked,
            original,
            perturbed,
            query,
            key,
        })
    }

    /// From the real images x (N, 3, H, W) and the pass the pair went through.
    pub(super) fn diagnostics(&self, x: &Tensor, pass: &Pass) -> Result<PairDiagnostics> {
        PairDiagnostics::of(
            self.masked.stats,
            Compared {
                originals: [x, &self.original],
                changed: &self.perturbed,
                features: [&pass.branches[0].features.pooled, &pass.key_pooled],
                top1: pass.top1,
                negative: pass.negative,
            },
        )
    }
}
