//! Which base one is.

use crate::method::kinds;

/// Why a base takes no generated images, if it does not.
type Pairs = Option<&'static str>;

kinds! {
    /// A base objective: its name, and what is known of it before it is built. [`BaseKind::new`] makes those of other
    /// crates.
    BaseKind;
    /// MoCo v2: a queue of keys ([`crate::MoCoV2`]).
    MOCO_V2 = Self::new("moco-v2", "moco");
    /// SimSiam: no negatives, no target network ([`crate::SimSiam`]).
    SIMSIAM = Self::new("simsiam", "simsiam");
    /// BYOL: no negatives, a target network ([`crate::Byol`]).
    BYOL = Self::new("byol", "byol");
    /// MoCo v3: negatives within the batch ([`crate::MoCoV3`]).
    MOCO_V3 = Self::new("moco-v3", "moco_v3");
    /// DINO: prototypes and small crops ([`crate::Dino`]).
    DINO = Self::new("dino", "dino").without_pairs(NO_PROTOTYPES);
}

/// Why DINO makes nothing of generated images.
pub(crate) const NO_PROTOTYPES: &str = "its prototypes and their centre describe real images, and generated ones would need their own; use moco-v2, simsiam, byol or moco-v3";

impl BaseKind {
    /// A base of this name, with its choices in this section of the settings.
    #[must_use]
    pub const fn new(name: &'static str, section: &'static str) -> Self {
        Self {
            name,
            section,
            pairs: None,
        }
    }

    /// The same of a base that takes no generated images: why, and what to do instead.
    #[must_use]
    pub const fn without_pairs(self, reason: &'static str) -> Self {
        Self {
            pairs: Some(reason),
            ..self
        }
    }

    /// Why it takes no generated images, if it does not.
    #[must_use]
    pub const fn refuses_pairs(self) -> Option<&'static str> {
        self.pairs
    }
}
