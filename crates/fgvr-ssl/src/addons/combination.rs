//! Which add-on stands on which base.

use std::fmt;

use crate::{AddonKind, BaseKind};

/// Why an add-on does not stand on a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The base.
    pub base: BaseKind,
    /// The add-on.
    pub addon: AddonKind,
    /// Why, and what to do instead.
    pub reason: &'static str,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addon, base) = (self.addon, self.base);
        write!(f, "{addon} does not run on {base}: {}", self.reason)
    }
}

impl std::error::Error for Unsupported {}

/// Why DINO makes nothing of generated images.
pub(crate) const NO_PROTOTYPES: &str = "its prototypes and their centre describe real images, and generated ones would need their own; use moco-v2, simsiam, byol or moco-v3";

/// The table of combinations. It has no row for "all others": who adds an add-on or a base decides each.
///
/// # Errors
/// Why `addon` does not stand on `base`.
pub fn supports(base: BaseKind, addon: AddonKind) -> Result<(), Unsupported> {
    let refuse = |reason| {
        Err(Unsupported {
            base,
            addon,
            reason,
        })
    };
    match (addon, base) {
        (AddonKind::SynthPair, BaseKind::Dino) => refuse(NO_PROTOTYPES),
        (
            AddonKind::SynthPair,
            BaseKind::MoCoV2 | BaseKind::SimSiam | BaseKind::Byol | BaseKind::MoCoV3,
        ) => Ok(()),
        // Of the trunk alone; of the map and the gradient at its mean; of targets; of two maps: all have them.
        (
            AddonKind::Pretext
            | AddonKind::CommonRationale
            | AddonKind::LocalDiscrimination
            | AddonKind::PatchMatch,
            BaseKind::MoCoV2
            | BaseKind::SimSiam
            | BaseKind::Byol
            | BaseKind::MoCoV3
            | BaseKind::Dino,
        ) => Ok(()),
    }
}
