//! The pair without images: p(h̃) close to p(h), by the base's own heads.

use candle_core::Result;
use fgvr_nn::cuda::Array;

use super::masked::Masked;
use super::outcome::Outcome;
use crate::step::StepInput;
use crate::{Base, Between, Branch, Values};

/// What a branch's features and their perturbed copies gave.
pub(super) struct Twin {
    pub(super) between: Between,
    pub(super) outcome: Outcome,
}

/// [`Base::between`] of h̃ and h of one branch.
///
/// # Design choice
/// With masked channels h̃ = (1 - M) ⊙ h + M ⊙ sg(h̃): the entries that were perturbed are constants, as they are in the
/// generated images, so the gradient reaches h through the dimensions that were kept and the head learns
/// to do without the others. Of noise along directions h̃ = h + sg(h̃ - h). The values are those of `masked`, bit for bit.
pub(super) fn twin(
    base: &dyn Base,
    branch: &Branch,
    masked: &Masked,
    input: &StepInput<'_>,
) -> Result<Twin> {
    let leaf = branch.pooled();
    let between = match (&leaf, &masked.features) {
        (Values::Host(h), Values::Host(features)) => {
            let changed = match masked.is_added {
                true => (h + (features - h.detach())?)?,
                false => {
                    let mask = masked.mask.to_host()?;
                    ((h * (1. - &mask)?)? + (&mask * features)?)?
                }
            };
            base.between(&Values::Host(changed), &leaf, input.images)?
        }
        (_, changed) => {
            let mut between = base.between(changed, &leaf, input.images)?;
            // By way of the host: a mask is small.
            let mask = masked.mask.to_host()?.flatten_all()?;
            let kept = match masked.is_added {
                true => mask.ones_like()?,
                false => (1. - mask)?,
            };
            let kept: Vec<f32> = kept.to_vec1()?;
            let kept = match leaf.device() {
                Some(device) => Some(device.run(|m| Array::from_f32(m, &kept))?),
                None => None,
            };
            let of_query = |at: usize| kept.clone().filter(|_| at == 0);
            between.found.entered(branch.view, of_query);
            between
        }
    };
    let (h, changed) = (leaf.detach(), &masked.features);
    let outcome = Outcome {
        found: between.found.measured(),
        stats: masked.stats.clone(),
        distances: [h.distance(changed)?, h.zeros_like()?.distance(&h)?],
        features: [changed.rows()?, h.rows()?],
    };
    Ok(Twin { between, outcome })
}
