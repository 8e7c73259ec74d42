//! Which add-on one is, and on which bases it stands.

use std::collections::BTreeSet;
use std::fmt;

use crate::BaseKind;
use crate::method::kinds;

/// Whether an add-on needs something that not every base has.
type Need = bool;

kinds! {
    /// An add-on: its name, and what is known of it before it is built. [`AddonKind::new`] makes those of other crates.
    AddonKind;
    /// Pairs synthesised from perturbed features ([`crate::SynthPair`]).
    SYNTH_PAIR = Self::new("synthpair", "synthpair").with_pairs();
    /// How an image was turned, or its patches shuffled ([`crate::Pretext`]).
    PRETEXT = Self::new("pretext", "pretext");
    /// The common rationale: a map, fitted to Grad-CAM, that weighs places ([`crate::CommonRationale`]).
    LCR = Self::new("lcr", "lcr");
    /// The pivotal patches of a view against the other view ([`crate::LoDisc`]).
    LODISC = Self::new("lodisc", "lodisc").with_view_targets();
    /// Places of one view against those of the other that look most like them ([`crate::PatchMatch`]).
    PATCH_MATCH = Self::new("patch-match", "patch_match");
    /// What a teacher says of the same images ([`crate::Distil`]).
    DISTIL = Self::new("distil", "distil");
}

impl AddonKind {
    /// An add-on of this name, with its choices in this section of the settings.
    #[must_use]
    pub const fn new(name: &'static str, section: &'static str) -> Self {
        Self {
            name,
            section,
            pairs: false,
            view_targets: false,
        }
    }

    /// The same of an add-on that gives its base generated images, or features of such.
    #[must_use]
    pub const fn with_pairs(self) -> Self {
        Self {
            pairs: true,
            ..self
        }
    }

    /// The same of an add-on that asks its base for a loss [against](crate::Base::against) other images in place of views.
    #[must_use]
    pub const fn with_view_targets(self) -> Self {
        Self {
            view_targets: true,
            ..self
        }
    }

    /// The first that `kinds` names twice.
    #[must_use]
    pub fn repeated(kinds: &[Self]) -> Option<Self> {
        let mut seen = BTreeSet::new();
        kinds.iter().copied().find(|kind| !seen.insert(*kind))
    }
}

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

/// Whether `addon` stands on `base`. All do that read features, maps or gradients of real images, which every base has;
/// generated images are for bases that take them, and other images in place of views for bases that compare views.
///
/// # Errors
/// Why it does not.
pub fn supports(base: BaseKind, addon: AddonKind) -> Result<(), Unsupported> {
    let needs = [
        (addon.pairs, base.refuses_pairs()),
        (addon.view_targets, base.refuses_view_targets()),
    ];
    let refused = needs
        .into_iter()
        .find_map(|(needs, reason)| reason.filter(|_| needs));
    match refused {
        Some(reason) => Err(Unsupported {
            base,
            addon,
            reason,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_is_seen() {
        let [a, b] = [AddonKind::SYNTH_PAIR, AddonKind::PRETEXT];
        assert_eq!(AddonKind::repeated(&[a, b]), None);
        assert_eq!(AddonKind::repeated(&[a, b, a]), Some(a));
    }

    #[test]
    fn names_and_sections_are_those_of_one_method_alone() {
        let bases = BaseKind::ALL.map(|kind| (kind.name(), kind.section()));
        let addons = AddonKind::ALL.map(|kind| (kind.name(), kind.section()));
        let all = || bases.iter().chain(&addons);
        let names: BTreeSet<_> = all().map(|(name, _)| name).collect();
        let sections: BTreeSet<_> = all().map(|(_, section)| section).collect();
        assert_eq!([names.len(), sections.len()], [12, 12]);
    }

    #[test]
    fn generated_images_are_for_bases_that_take_them() {
        let own = BaseKind::new("own", "own");
        supports(own, AddonKind::SYNTH_PAIR).unwrap();
        let refusing = own.without_pairs("it is so");
        let error = supports(refusing, AddonKind::SYNTH_PAIR).unwrap_err();
        assert_eq!(error.to_string(), "synthpair does not run on own: it is so");
        supports(refusing, AddonKind::LCR).unwrap();
        supports(refusing, AddonKind::new("other", "other").with_pairs()).unwrap_err();
        let classes = own.without_view_targets("it has none");
        let error = supports(classes, AddonKind::LODISC).unwrap_err();
        assert_eq!(error.to_string(), "lodisc does not run on own: it has none");
        supports(classes, AddonKind::SYNTH_PAIR).unwrap();
    }
}
