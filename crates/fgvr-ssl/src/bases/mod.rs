//! All bases by name. A new one is a room of its own with a configuration that implements [`BaseConfig`], and
//! one line below.

pub(crate) mod base;
mod byol;
mod dino;
pub(crate) mod head;
pub(crate) mod mlp;
mod moco_v2;
mod moco_v3;
pub(crate) mod momentum;
pub(crate) mod projection;
pub(crate) mod recipe;
pub(crate) mod siamese;
mod simsiam;
mod trunk_norm;

use std::fmt;
use std::str::FromStr;

use candle_core::{Error, Result, bail};
use fgvr_nn::Encoder;

use crate::RunLength;

pub use self::base::{Base, Between, Network};
pub use self::byol::{Byol, ByolConfig, ByolObjective};
pub use self::dino::{Dino, DinoConfig};
pub use self::head::{ProjectionHead, l2_normalise};
pub use self::mlp::{ActivationFunction, Mlp, MlpConfig};
pub use self::moco_v2::{KeyQueue, MoCoConfig, MoCoV2};
pub use self::moco_v3::{MoCoV3, MoCoV3Config, MoCoV3Objective};
pub use self::momentum::{MomentumSchedule, RunningStatistics, momentum_update};
pub use self::recipe::{LearningRate, LocalCrops, Optimizer, Recipe, Trunk, ViewRecipe};
pub use self::siamese::{Average, Objective, Siamese};
pub use self::simsiam::{SimSiam, SimSiamConfig, SimSiamObjective};
pub use self::trunk_norm::{NormedBy, TrunkNorm};

/// What a base is built from.
pub struct Parts<'a, E> {
    /// Makes an encoder of the run's configuration over variables of its own. Called once for the online
    /// network, and once more by bases with a network that follows it.
    pub network: &'a mut dyn FnMut() -> Result<Network<E>>,
    /// Seed of the heads' initial values.
    pub seed: u64,
    /// How long the run is.
    pub run: RunLength,
}

/// The choices of a base, from which it is built.
pub trait BaseConfig: Default {
    /// Checks what a configuration file can get wrong.
    ///
    /// # Errors
    /// The field, what was expected and what was found.
    fn validate(&self) -> Result<()>;

    /// The base.
    ///
    /// # Errors
    /// A configuration out of range, and encoders that do not fit each other.
    fn build<E: Encoder + Send + 'static>(&self, parts: Parts<'_, E>) -> Result<Box<dyn Base>>;

    /// How it was published, on a trunk of this kind or the nearest one.
    fn recipe(trunk: Trunk) -> Recipe;
}

macro_rules! bases {
    ($($(#[$doc:meta])* $(($default:ident))? $kind:ident = $name:literal, $field:ident: $config:ty;)+) => {
        /// The base objectives.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub enum BaseKind {
            $($(#[$doc])* #[cfg_attr(feature = "serde", serde(rename = $name))] $(#[$default])? $kind,)+
        }

        /// The choices of every base; a run uses those of its [`BaseKind`].
        #[derive(Clone, Debug, Default, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(deny_unknown_fields, default))]
        pub struct BaseSettings {
            $($(#[$doc])* pub $field: $config,)+
        }

        impl BaseKind {
            /// All bases.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Its name in configuration files and on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// How it was published, on a trunk of this kind or the nearest one.
            #[must_use]
            pub fn recipe(self, trunk: Trunk) -> Recipe {
                match self { $(Self::$kind => <$config>::recipe(trunk),)+ }
            }

            /// Checks its own choices among `settings`.
            ///
            /// # Errors
            /// The field, what was expected and what was found.
            pub fn validate(self, settings: &BaseSettings) -> Result<()> {
                match self { $(Self::$kind => BaseConfig::validate(&settings.$field),)+ }
            }

            /// This base, with its own choices among `settings`.
            ///
            /// # Errors
            /// A configuration out of range, and encoders that do not fit each other.
            pub fn build<E: Encoder + Send + 'static>(
                self,
                settings: &BaseSettings,
                parts: Parts<'_, E>,
            ) -> Result<Box<dyn Base>> {
                match self { $(Self::$kind => settings.$field.build(parts),)+ }
            }
        }
    };
}

bases! {
    /// MoCo v2: a queue of keys ([`crate::MoCoV2`]).
    (default) MoCoV2 = "moco-v2", moco: MoCoConfig;
    /// SimSiam: no negatives, no target network ([`crate::SimSiam`]).
    SimSiam = "simsiam", simsiam: SimSiamConfig;
    /// BYOL: no negatives, a target network ([`crate::Byol`]).
    Byol = "byol", byol: ByolConfig;
    /// MoCo v3: negatives within the batch ([`crate::MoCoV3`]).
    MoCoV3 = "moco-v3", moco_v3: MoCoV3Config;
    /// DINO: prototypes and small crops ([`crate::Dino`]).
    Dino = "dino", dino: DinoConfig;
}

impl fmt::Display for BaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BaseKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(kind),
            None => bail!(
                "base: {name:?}, expected one of {}",
                Self::ALL.map(Self::name).join(", ")
            ),
        }
    }
}

/// Refuses a size of zero.
pub(crate) fn sizes(base: &str, sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((name, _)) => bail!("{base}: {name} is 0, expected at least 1"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in BaseKind::ALL {
            assert_eq!(kind.to_string().parse::<BaseKind>().unwrap(), kind);
        }
        assert_eq!(BaseKind::default().name(), "moco-v2");
        let error = "byoll".parse::<BaseKind>().unwrap_err().to_string();
        assert!(error.contains("simsiam, byol, moco-v3"), "{error}");
    }
}
