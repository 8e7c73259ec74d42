//! All that is judged of a study so far.

use std::collections::{BTreeMap, BTreeSet};

use super::judged::Judged;

/// Judgements by data set, side (an arm, or `start`) and seed, where it depends on one.
#[derive(Clone, Debug, Default)]
pub(super) struct Judgements(BTreeMap<(String, String), BTreeMap<Option<u64>, Judged>>);

impl Judgements {
    pub(super) fn add(&mut self, data: &str, side: &str, seed: Option<u64>, judged: Judged) {
        let of = self.0.entry((data.to_owned(), side.to_owned()));
        of.or_default().insert(seed, judged);
    }

    /// Those of one side, each with its seed.
    pub(super) fn all(
        &self,
        data: &str,
        side: &str,
    ) -> impl Iterator<Item = (Option<u64>, &Judged)> {
        let of = self.0.get(&(data.to_owned(), side.to_owned()));
        let of = of.into_iter().flatten();
        of.map(|(seed, judged)| (*seed, judged))
    }

    /// That of one side with `seed`, or the one for all seeds.
    pub(super) fn of(&self, data: &str, side: &str, seed: Option<u64>) -> Option<&Judged> {
        let mut all = self.all(data, side);
        let found = all.find(|(of, _)| of.is_none() || *of == seed);
        found.map(|(_, judged)| judged)
    }

    /// Whether a side's figures depend on the seed.
    pub(super) fn is_seeded(&self, data: &str, side: &str) -> bool {
        self.all(data, side).any(|(seed, _)| seed.is_some())
    }

    /// The seeds that both sides have; `[None]` where neither depends on one.
    pub(super) fn shared_seeds(&self, data: &str, sides: [&str; 2]) -> Vec<Option<u64>> {
        let seeds = |side: &str| -> BTreeSet<Option<u64>> {
            self.all(data, side).map(|(seed, _)| seed).collect()
        };
        let [a, b] = sides.map(seeds);
        match [&a, &b].map(|of| of.contains(&None)) {
            [true, true] => vec![None],
            [true, false] => b.into_iter().collect(),
            [false, true] => a.into_iter().collect(),
            [false, false] => a.intersection(&b).copied().collect(),
        }
    }
}
