//! The add-ons. A new one is a room of its own with an [`Addon`] and its [`AddonConfig`], a line in [`AddonKind`] and
//! one in [`addons`]; of another crate it is the first two alone.

pub(crate) mod addon;
mod distil;
mod kind;
mod lcr;
mod lodisc;
mod patch_match;
mod pretext;
mod synth_pair;

use std::collections::HashMap;

use candle_core::{Result, Tensor};
use fgvr_nn::optim::AdamConfig;
use fgvr_nn::{Decoder, Parameters};

use crate::bases::Renumber;
use crate::{MethodConfig, RunLength};

pub use self::addon::{Addon, AtFeatures, Further, OwnOptimizer};
pub use self::distil::{Distil, DistilConfig, DistilForm, feature_loss, similarity_loss};
pub use self::kind::{AddonKind, Unsupported, supports};
pub use self::lcr::{
    CommonRationale, CommonRationaleConfig, FitSoftmax, MapRange, RationaleChoices, RationaleFit,
    RationaleForm, RationaleViews, Reduction, Route, Screening, TargetScale,
};
pub use self::lodisc::{
    LODISC_RECIPE, LoDisc, LoDiscConfig, LocalNegatives, Regions, attention_product, masked,
    pivotal_count, pivotal_mask, random_mask,
};
pub use self::patch_match::{PatchMatch, PatchMatchConfig};
pub use self::pretext::{Pretext, PretextConfig, PretextTask};
pub use self::synth_pair::{
    Along, Arm, Course, CurriculumConfig, PairGate, PairOf, Space, SynthPair, SynthPairConfig,
    Variance, gated_pair_weight, mask_at, pair_weight,
};
pub(crate) use self::synth_pair::{noise_along, noise_basis};

/// A decoder, the variables it was built over, and how they are trained.
pub struct DecoderNetwork {
    /// The decoder.
    pub decoder: Box<dyn Decoder + Send>,
    /// Its variables, by the names it gave them.
    pub parameters: Parameters,
    /// The constants of its optimiser.
    pub adam: AdamConfig,
    /// Its learning rate, the same at every step.
    pub learning_rate: f64,
}

/// Makes a decoder of pooled features or of maps, over variables of its own.
pub type MakeDecoder<'a> = dyn FnMut(Space) -> Result<DecoderNetwork> + 'a;

/// What an add-on is built for.
pub struct AddonParts<'a> {
    /// C, the channels of the trunk's last map.
    pub width: usize,
    /// Seed of its initial values.
    pub seed: u64,
    /// How long the run is.
    pub run: RunLength,
    /// Called once by an add-on that makes images of features.
    pub decoder: Option<&'a mut MakeDecoder<'a>>,
    /// A teacher's features (M, C), a row for each training image, for an add-on that learns from one.
    pub teacher: Option<&'a Tensor>,
}

impl AddonParts<'_> {
    /// Without a decoder.
    #[must_use]
    pub fn new(width: usize, seed: u64, run: RunLength) -> Self {
        Self {
            width,
            seed,
            run,
            decoder: None,
            teacher: None,
        }
    }
}

/// The choices of an add-on, from which it is built.
pub trait AddonConfig: MethodConfig {
    /// Which add-on.
    fn kind(&self) -> AddonKind;

    /// The add-on.
    ///
    /// # Errors
    /// A configuration out of range, and a decoder that is missing.
    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>>;

    /// Brings a saved [`Addon::state`] into line with a set that changed, and says what became of it, a line each.
    ///
    /// # Errors
    /// A state that is not of this add-on.
    fn renumber(
        &self,
        _state: &mut HashMap<String, Tensor>,
        _number: &Renumber<'_>,
    ) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// The choices of all add-ons of this crate, with their defaults.
#[must_use]
pub fn addons() -> Vec<Box<dyn AddonConfig>> {
    vec![
        Box::new(SynthPairConfig::default()),
        Box::new(PretextConfig::default()),
        Box::new(CommonRationaleConfig::default()),
        Box::new(LoDiscConfig::default()),
        Box::new(PatchMatchConfig::default()),
        Box::new(DistilConfig::default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_add_on_of_this_crate_has_its_choices() {
        let kinds: Vec<_> = addons().iter().map(|addon| addon.kind()).collect();
        assert_eq!(kinds, AddonKind::ALL);
        for addon in addons() {
            addon.validate().unwrap();
        }
    }
}
