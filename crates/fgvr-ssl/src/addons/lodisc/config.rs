//! The choices of LoDisc, their ranges, and how it was published.

use std::collections::HashMap;

use candle_core::{Result, Tensor, bail};
use fgvr_gradcam::Sign;

use super::masked_keys::MaskedKeys;
use super::{LoDisc, pivotal_count};
use crate::bases::recipe::{BYOL_VIEWS, LearningRate, Optimizer, Recipe};
use crate::{
    Addon, AddonConfig, AddonKind, AddonParts, MethodConfig, MomentumSchedule, Renumber, TrainedOn,
    Trunk,
};

/// By what an image's patches are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Regions {
    /// [`Regions::Attention`] of an encoder with a class token, else [`Regions::GradCam`].
    #[default]
    AutoByEncoder,
    /// The product over layers of the class token's attention in the network that makes the targets.
    Attention,
    /// Grad-CAM of the base's loss at the online encoder's last map, whose mean must be its feature.
    GradCam,
    /// Nothing: patches drawn at random, the control that a claim must beat.
    Random,
}

fgvr_nn::named!(Regions, "Its name in configuration files." {
    AutoByEncoder = "auto-by-encoder",
    Attention = "attention",
    GradCam = "grad-cam",
    Random = "random",
});

/// Which keys are the negatives of queries that are compared with masked views, on a base that keeps keys of earlier
/// batches ([`Base::negatives`](crate::Base::negatives), MoCo v2). On others the negatives, where there are any, are of
/// the batch and masked as the positive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum LocalNegatives {
    /// The base's own, of whole images: then the masked pixels alone tell the positive from all negatives.
    #[default]
    Whole,
    /// Keys of masked views of earlier batches, in a queue of LoDisc's own.
    Masked,
}

fgvr_nn::named!(LocalNegatives, "Its name in configuration files." {
    Whole = "whole",
    Masked = "masked",
});

/// Choices of [`LoDisc`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
pub struct LoDiscConfig {
    /// Weight of the local loss beside the base's, the global one.
    pub weight: f64,
    /// Share of the patches that is kept, rounded down to whole patches.
    pub fraction: f64,
    /// By what they are ranked.
    pub regions: Regions,
    /// Which places Grad-CAM ranks high.
    ///
    /// # Design choice
    /// Those that lower the loss: the evidence by which the base tells the image from others, as
    /// attention is. Under pooling by the mean the two signs split the map into halves of about equal
    /// weight, so that the other one is a fair control.
    pub sign: Sign,
    /// What the negatives are where the base keeps keys.
    ///
    /// # Design choice
    /// A run that is started by settings has masked ones ([`MethodConfig::default_for`]). The default here is that of runs
    /// whose settings were written before there was a choice, which go on as they were.
    pub negatives: LocalNegatives,
}

impl Default for LoDiscConfig {
    fn default() -> Self {
        Self {
            weight: 1.,
            fraction: 0.3,
            regions: Regions::AutoByEncoder,
            sign: Sign::LowersLoss,
            negatives: LocalNegatives::Whole,
        }
    }
}

impl LoDiscConfig {
    /// Checks that square images of `side` pixels with a map of `cells` places along a side can be masked.
    ///
    /// # Errors
    /// A map of one place, a fraction that keeps none or all, and places of no whole number of pixels.
    pub fn masks(&self, side: usize, cells: usize) -> Result<()> {
        pivotal_count(self.fraction, cells * cells)?;
        if !side.is_multiple_of(cells) {
            bail!(
                "lodisc: images of {side} x {side}, expected multiples of the map's side {cells}"
            );
        }
        Ok(())
    }
}

impl MethodConfig for LoDiscConfig {
    fn default_for(&mut self, _: Trunk, is_chosen: &dyn Fn(&str) -> bool) {
        if !is_chosen("negatives") {
            self.negatives = LocalNegatives::Masked;
        }
    }

    fn fits(&self, on: &TrainedOn<'_>) -> Result<()> {
        let right = match (on.trunk, self.regions) {
            (Trunk::Vit, Regions::GradCam) if !on.pools_places => Some(Regions::Attention),
            (Trunk::ResNet, Regions::Attention) => Some(Regions::GradCam),
            _ => None,
        };
        if let Some(right) = right {
            bail!(
                "lodisc: regions is {}, expected {} or {} with {}",
                self.regions.name(),
                right.name(),
                Regions::AutoByEncoder.name(),
                on.architecture
            );
        }
        self.masks(on.side, on.places())
    }

    fn validate(&self) -> Result<()> {
        if !(self.weight >= 0. && self.weight.is_finite()) {
            bail!(
                "lodisc: weight is {}, expected a number of at least 0",
                self.weight
            );
        }
        if !(self.fraction > 0. && self.fraction < 1.) {
            bail!(
                "lodisc: fraction is {}, expected a number between 0 and 1",
                self.fraction
            );
        }
        Ok(())
    }
}

impl AddonConfig for LoDiscConfig {
    fn kind(&self) -> AddonKind {
        AddonKind::LODISC
    }

    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
        Ok(Box::new(LoDisc::new(self, parts)?))
    }

    fn renumber(
        &self,
        state: &mut HashMap<String, Tensor>,
        number: &Renumber<'_>,
    ) -> Result<Vec<String>> {
        MaskedKeys::renumber(state, number)
    }
}

/// How LoDisc was trained by those who published it, on MoCo v3 with ViT-B/16 at 224 px from supervised
/// ImageNet weights; temperature and momentum are [`crate::MoCoV3Config`]'s defaults.
pub const LODISC_RECIPE: Recipe = Recipe {
    source: "the released code of arXiv:2403.04066: ViT-B/16, 100 epochs; the README leaves the rate blank, 1e-3 is the argument's default; the batch is not stated, 256 is ours",
    optimizer: Optimizer::AdamW {
        betas: [0.9, 0.999],
    },
    learning_rate: LearningRate {
        per_256: 1e-3,
        warm_up_epochs: 0,
        constant: &[],
    },
    weight_decay: [0.5, 0.5],
    decays_norm_and_bias: true,
    momentum: Some((0.99, MomentumSchedule::Cosine)),
    epochs: 100,
    batch: 256,
    views: BYOL_VIEWS,
    local_crops: None,
};
