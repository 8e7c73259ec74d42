//! What a SynthPair step is given, and what it gives back.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

use crate::{Diagnostics, Views};

/// The pair's own augmentation: images (N, 3, H, W), and 0 for x̂ or 1 for x̃ of the first view, 2 or 3
/// of the second.
pub type PairAugment<'a> = dyn Fn(&Tensor, u64) -> Result<Tensor> + 'a;

/// One batch, and where in the run it stands.
#[derive(Clone, Copy)]
pub struct StepInput<'a> {
    /// Augmented, normalised views.
    pub views: Views<'a>,
    /// The index of each image in its set.
    pub images: &'a [u32],
    /// From 0.
    pub step: u64,
    /// Steps of the whole run, which the schedule refers to.
    pub total_steps: u64,
    /// Seed of masks, noise and roles.
    pub seed: u64,
    /// The pair's own augmentation, used if the configuration asks for it.
    pub augment: &'a PairAugment<'a>,
    /// Whether to return [`Pictures`].
    pub pictures: bool,
}

/// The losses of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// L_C.
    pub contrastive: f64,
    /// L_R, where the decoder ran.
    pub reconstruction: Option<f64>,
    /// L_Cp, where there was a pair.
    pub pair: Option<f64>,
    /// L_C + α L_R + ν(t) L_Cp.
    pub total: f64,
}

impl Losses {
    /// With α and L_R, ν(t) and L_Cp.
    pub(crate) fn new(
        contrastive: f64,
        (alpha, reconstruction): (f64, Option<f64>),
        (nu, pair): (f64, Option<f64>),
    ) -> Self {
        let weighted = |weight: f64, loss: Option<f64>| loss.map_or(0., |loss| weight * loss);
        Self {
            contrastive,
            reconstruction,
            pair,
            total: contrastive + weighted(alpha, reconstruction) + weighted(nu, pair),
        }
    }
}

/// What pictures of a step are made from: tensors of the batch, without a way back. Of a base with two
/// query branches, those of the first.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// The images that the queries were made of (N, 3, H, W), normalised.
    pub x: Tensor,
    /// x̂, the decoder's image of the features.
    pub reconstruction: Option<Tensor>,
    /// x̃, its image of the perturbed features.
    pub perturbed: Option<Tensor>,
    /// Query and key image as the networks saw them, in this order.
    pub pair: Option<[Tensor; 2]>,
    /// The last feature map (N, C, h, w).
    pub map: Tensor,
    /// ∂L_C/∂h at its pooled features (N, C); the map's own gradient is this over h*w at each place.
    pub gradient: Tensor,
    /// The mask (N, C).
    pub mask: Option<Tensor>,
}

/// What a step computed; the caller's optimisers do the rest.
pub struct StepOutput {
    /// Of the base's trainable variables: encoder and head, for all three terms.
    pub gradients: GradStore,
    /// Of the decoder's variables, for L_R; `None` in arms without a decoder.
    pub decoder_gradients: Option<GradStore>,
    /// The losses.
    pub losses: Losses,
    /// Projections of the first view (N, D), as [`crate::Pass::query`].
    pub query: Tensor,
    /// Numbers to log.
    pub diagnostics: Diagnostics,
    /// Only when asked for.
    pub pictures: Option<Pictures>,
}
