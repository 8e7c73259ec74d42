//! The pair of images: generated, augmented, and sent through the base.

use candle_core::Result;
use fgvr_nn::Decoder;
use rand::Rng;

use super::decoded::generate;
use super::masked::Masked;
use super::outcome::Outcome;
use crate::step::StepInput;
use crate::step::shuffle::keyed_rng;
use crate::step::values::device_of;
use crate::{Pass, SynthPairConfig, Values};

/// Sets the draw of the pair's roles apart from other draws of the same (seed, step).
const ROLES: u64 = 0x726f_6c65;

/// Whether the roles of query and key are exchanged for this branch at this step.
fn swapped(cfg: &SynthPairConfig, input: &StepInput<'_>, branch: usize) -> bool {
    cfg.swap_roles && keyed_rng([input.seed, input.step, ROLES, branch as u64]).next_u32() % 2 == 1
}

/// The pair's own augmentation of `images`, where they are if that can be.
fn augmented(input: &StepInput<'_>, images: &Values, view: u64) -> Result<Values> {
    match (images, input.augment_on_device) {
        (Values::Host(images), _) => (input.augment)(images, view).map(Values::Host),
        (Values::Device(map), Some(augment)) => {
            augment(device_of(map)?, map, view).map(Values::Device)
        }
        (Values::Device(map), None) => {
            let augmented = (input.augment)(&map.to_tensor()?, view)?;
            Values::Host(augmented).placed(map.device())
        }
    }
}

/// The generated images, before and after their own augmentation.
pub(super) struct ImagePair {
    original: Values,
    pub(super) perturbed: Values,
    pub(super) query: Values,
    pub(super) key: Values,
}

impl ImagePair {
    /// x̂ and x̃, each with its own augmentation, and who is the query. `original` is x̂ of this branch.
    pub(super) fn new(
        cfg: &SynthPairConfig,
        decoder: &dyn Decoder,
        original: Values,
        masked: &Masked,
        branch: usize,
        input: &StepInput<'_>,
    ) -> Result<Self> {
        let perturbed = generate(decoder, &masked.features)?;
        let [first, second] = match cfg.augment_pair {
            true => [
                augmented(input, &original, 2 * branch as u64)?,
                augmented(input, &perturbed, 2 * branch as u64 + 1)?,
            ],
            false => [original.clone(), perturbed.clone()],
        };
        let (query, key) = if swapped(cfg, input, branch) {
            (second, first)
        } else {
            (first, second)
        };
        Ok(Self {
            original,
            perturbed,
            query,
            key,
        })
    }

    /// From the real images x (N, 3, H, W) and the pass the pair went through.
    pub(super) fn outcome(&self, x: &Values, masked: &Masked, pass: &Pass) -> Result<Outcome> {
        Ok(Outcome {
            found: pass.found.measured(),
            stats: masked.stats.clone(),
            distances: [
                self.original.distance(&self.perturbed)?,
                x.distance(&self.original)?,
            ],
            features: [pass.branches[0].pooled().rows()?, pass.key_pooled.clone()],
        })
    }
}
