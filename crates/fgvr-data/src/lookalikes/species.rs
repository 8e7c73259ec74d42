//! The parts that tell species apart, and which species has which.

/// A small part of a bird that comes in [`VARIANTS`] forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Beak,
    Bars,
    Crest,
    Tail,
    Breast,
    Face,
    Collar,
}

pub(super) const PARTS: usize = 7;
pub(super) const VARIANTS: usize = 4;
/// Parts that may differ within a family; the third serves families of more than 16 species.
pub(super) const SLOTS: usize = 3;
/// The most species one family can have.
pub(super) const MOST_SPECIES: usize = VARIANTS.pow(SLOTS as u32);

/// The variant of each part, by `Part as usize`.
pub(super) type Parts = [usize; PARTS];

impl Part {
    pub(super) fn name(self, variant: usize) -> &'static str {
        let names = match self {
            Self::Beak => ["short beak", "long beak", "curved beak", "spoon beak"],
            Self::Bars => ["one bar", "three bars", "two bars", "no bars"],
            Self::Crest => ["no crest", "pointed crest", "plume", "fan crest"],
            Self::Tail => ["square tail", "forked tail", "pointed tail", "fan tail"],
            Self::Breast => [
                "spotted breast",
                "streaked breast",
                "barred breast",
                "plain breast",
            ],
            Self::Face => ["eye ring", "eye stripe", "cheek patch", "plain face"],
            Self::Collar => ["one collar", "two collars", "bib", "no collar"],
        };
        names[variant]
    }
}

/// A part that differs within a family, its variants in the order in which species take them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) part: Part,
    pub(super) order: [usize; VARIANTS],
}

/// Which variant of each slot species `species` of `count` takes: digits in the smallest base whose
/// first two digits number `count` species, so that four species differ in two variants of two parts.
pub(super) fn digits(species: usize, count: usize) -> [usize; SLOTS] {
    let base = (1..=VARIANTS).find(|m| m * m >= count).unwrap_or(VARIANTS);
    [
        species % base,
        species / base % base,
        species / (base * base),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_species_of_a_family_has_its_own_variants() {
        for count in 1..=MOST_SPECIES {
            let mut all: Vec<_> = (0..count).map(|s| digits(s, count)).collect();
            assert!(all.iter().flatten().all(|&v| v < VARIANTS), "{count}");
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }
}
