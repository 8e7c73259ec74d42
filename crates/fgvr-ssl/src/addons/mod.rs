//! All add-ons by name. A new one is a room of its own with an [`Addon`] and its [`AddonConfig`], one line at the
//! end of this file, and its row in the table of `combination.rs`.

pub(crate) mod addon;
pub(crate) mod combination;
mod lcr;
mod lodisc;
mod patch_match;
mod pretext;
mod synth_pair;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use candle_core::{Error, Result, bail};
use fgvr_nn::optim::AdamConfig;
use fgvr_nn::{Decoder, Parameters};

use crate::RunLength;

pub use self::addon::{Addon, AtFeatures, Further, OwnOptimizer};
pub use self::combination::{Unsupported, supports};
pub use self::lcr::{
    CommonRationale, CommonRationaleConfig, FitSoftmax, MapRange, RationaleChoices, RationaleFit,
    RationaleForm, RationaleViews, Reduction, Route, Screening, TargetScale,
};
pub use self::lodisc::{
    LODISC_RECIPE, LoDisc, LoDiscConfig, Regions, attention_product, masked, pivotal_count,
    pivotal_mask, random_mask,
};
pub use self::patch_match::{PatchMatch, PatchMatchConfig};
pub use self::pretext::{Pretext, PretextConfig, PretextTask};
pub use self::synth_pair::{
    Arm, Course, CurriculumConfig, PairOf, Space, SynthPair, SynthPairConfig, Variance, mask_at,
    pair_weight,
};

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
        }
    }
}

/// The choices of an add-on, from which it is built.
pub trait AddonConfig: Default {
    /// Checks what a configuration file can get wrong.
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    fn validate(&self) -> Result<()>;

    /// The add-on.
    ///
    /// # Errors
    /// A configuration out of range.
    fn build(&self, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>>;
}

macro_rules! addons {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $field:ident: $config:ty;)+) => {
        /// What can stand on a base.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub enum AddonKind {
            $($(#[$doc])* #[cfg_attr(feature = "serde", serde(rename = $name))] $kind,)+
        }

        /// The choices of every add-on.
        #[derive(Clone, Debug, Default, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
        pub struct AddonSettings {
            $($(#[$doc])* pub $field: $config,)+
        }

        impl AddonKind {
            /// All add-ons.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Its name in configuration files and on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// The section of the settings that holds its choices.
            #[must_use]
            pub fn section(self) -> &'static str {
                match self { $(Self::$kind => stringify!($field),)+ }
            }

            /// Checks its own choices among `settings`.
            ///
            /// # Errors
            /// The field, what was expected and what was found.
            pub fn validate(self, settings: &AddonSettings) -> Result<()> {
                match self { $(Self::$kind => AddonConfig::validate(&settings.$field),)+ }
            }

            /// This add-on, with its own choices among `settings`.
            ///
            /// # Errors
            /// A configuration out of range, and a decoder that is missing.
            pub fn build(self, settings: &AddonSettings, parts: AddonParts<'_>) -> Result<Box<dyn Addon + Send>> {
                match self { $(Self::$kind => settings.$field.build(parts),)+ }
            }
        }
    };
}

impl fmt::Display for AddonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AddonKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(kind),
            None => bail!(
                "add-on: {name:?}, expected one of {}",
                Self::ALL.map(Self::name).join(", ")
            ),
        }
    }
}

impl AddonKind {
    /// The first that `kinds` names twice.
    #[must_use]
    pub fn repeated(kinds: &[Self]) -> Option<Self> {
        let mut seen = BTreeSet::new();
        kinds.iter().copied().find(|kind| !seen.insert(*kind))
    }
}

addons! {
    /// Pairs synthesised from perturbed features ([`crate::SynthPair`]).
    SynthPair = "synthpair", synthpair: SynthPairConfig;
    /// How an image was turned, or its patches shuffled ([`crate::Pretext`]).
    Pretext = "pretext", pretext: PretextConfig;
    /// The common rationale: a map, fitted to Grad-CAM, that weighs places ([`crate::CommonRationale`]).
    CommonRationale = "lcr", lcr: CommonRationaleConfig;
    /// The pivotal patches of a view against the other view ([`crate::LoDisc`]).
    LocalDiscrimination = "lodisc", lodisc: LoDiscConfig;
    /// Places of one view against those of the other that look most like them ([`crate::PatchMatch`]).
    PatchMatch = "patch-match", patch_match: PatchMatchConfig;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_repetition_is_seen() {
        for kind in AddonKind::ALL {
            assert_eq!(kind.to_string().parse::<AddonKind>().unwrap(), kind);
        }
        let error = "synth".parse::<AddonKind>().unwrap_err().to_string();
        assert!(error.contains("synthpair, "), "{error}");
        let [a, b] = [AddonKind::SynthPair, AddonKind::Pretext];
        assert_eq!(AddonKind::repeated(&[a, b]), None);
        assert_eq!(AddonKind::repeated(&[a, b, a]), Some(a));
    }
}
