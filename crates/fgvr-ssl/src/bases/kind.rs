//! Which base one is.

use crate::method::kinds;

/// Why a base does not do what some add-ons need, if it does not.
type Need = Option<&'static str>;

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
    /// DIET: each image is a class ([`crate::Diet`]).
    DIET = Self::new("diet", "diet").without_view_targets(NO_VIEW_TARGETS);
}

/// Why DINO makes nothing of generated images.
pub(crate) const NO_PROTOTYPES: &str = "its prototypes and their centre describe real images, and generated ones would need their own; use moco-v2, simsiam, byol or moco-v3";

/// Why DIET makes nothing of other images in place of its views.
pub(crate) const NO_VIEW_TARGETS: &str = "a view is compared with the class of its image and with no other view, so masked views have no place; use moco-v2, simsiam, byol, moco-v3 or dino";

impl BaseKind {
    /// A base of this name, with its choices in this section of the settings.
    #[must_use]
    pub const fn new(name: &'static str, section: &'static str) -> Self {
        Self {
            name,
            section,
            pairs: None,
            view_targets: None,
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

    /// The same of a base whose targets are not made of views, so that it cannot be asked for its loss
    /// [against](crate::Base::against) other images: why, and what to do instead.
    #[must_use]
    pub const fn without_view_targets(self, reason: &'static str) -> Self {
        Self {
            view_targets: Some(reason),
            ..self
        }
    }

    /// Why it has no loss against other images in place of its views, if it has none.
    #[must_use]
    pub const fn refuses_view_targets(self) -> Option<&'static str> {
        self.view_targets
    }

    /// Why it takes no generated images, if it does not.
    #[must_use]
    pub const fn refuses_pairs(self) -> Option<&'static str> {
        self.pairs
    }
}
