//! The pair without images: p(h̃) close to p(h), by the base's own heads.

use candle_core::{Result, Tensor};

use super::masked::Masked;
use crate::diagnostics::{Compared, PairDiagnostics};
use crate::step::StepInput;
use crate::{Base, Between};

/// What a branch's features and their perturbed copies gave.
pub(super) struct Twin {
    pub(super) found: Between,
    pub(super) diagnostics: PairDiagnostics,
}

/// [`Base::between`] of h̃ and h of one branch, whose pooled features (N, C) are `leaf`.
///
/// # Design choice
/// h̃ = (1 - M) ⊙ h + M ⊙ sg(h̃): the entries that were perturbed are constants, as they are in the
/// generated images, so the gradient reaches h through the dimensions that were kept and the head learns
/// to do without the others. The values are those of `masked`, bit for bit.
pub(super) fn twin(
    base: &dyn Base,
    leaf: &Tensor,
    masked: &Masked,
    input: &StepInput<'_>,
) -> Result<Twin> {
    let kept = (1. - &masked.mask)?;
    let changed = ((leaf * kept)? + (&masked.mask * &masked.features)?)?;
    let found = base.between(&changed, leaf, input.images)?;
    let h = leaf.detach();
    let diagnostics = PairDiagnostics::of(
        masked.stats,
        Compared {
            originals: [&h.zeros_like()?, &h],
            changed: &masked.features,
            features: [&masked.features, &h],
            top1: found.found.top1,
            negative: found.found.negative,
        },
    )?;
    Ok(Twin { found, diagnostics })
}
