//! Which add-on stands on which base.

use std::fmt;

use crate::BaseKind;

/// What can stand on a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addon {
    /// Pairs synthesised from perturbed features ([`crate::SynthPair`]).
    SynthPair,
}

impl Addon {
    /// All add-ons.
    pub const ALL: [Self; 1] = [Self::SynthPair];

    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SynthPair => "synthpair",
        }
    }
}

/// Why an add-on does not stand on a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The base.
    pub base: BaseKind,
    /// The add-on.
    pub addon: Addon,
    /// Why, and what to do instead.
    pub reason: &'static str,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addon, base) = (self.addon.name(), self.base);
        write!(f, "{addon} does not run on {base}: {}", self.reason)
    }
}

impl std::error::Error for Unsupported {}

/// Why DINO makes nothing of generated images.
pub(crate) const NO_PROTOTYPES: &str = "its prototypes and their centre describe real images, and generated ones would need their own; use moco-v2, simsiam, byol or moco-v3";

/// The table of combinations.
///
/// # Errors
/// Why `addon` does not stand on `base`.
pub fn supports(base: BaseKind, addon: Addon) -> Result<(), Unsupported> {
    match (base, addon) {
        (BaseKind::Dino, Addon::SynthPair) => Err(Unsupported {
            base,
            addon,
            reason: NO_PROTOTYPES,
        }),
        (
            BaseKind::MoCoV2 | BaseKind::SimSiam | BaseKind::Byol | BaseKind::MoCoV3,
            Addon::SynthPair,
        ) => Ok(()),
    }
}
