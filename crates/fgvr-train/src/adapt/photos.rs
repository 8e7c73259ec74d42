//! Which photos play which part.

use std::sync::Arc;

use fgvr_data::{Dataset, Splits};
use serde::Serialize;

use super::{AdaptOptions, AdaptSettings};
use crate::digest;

/// The photos that figures of the table are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queries {
    /// Those of the test split.
    Test,
    /// Those of the validation split, where there are no test photos with labels.
    Validation,
    /// The training photos that were held out, where there is neither.
    HeldOut,
}

fgvr_nn::named!(Queries, "As it stands before the word \"photos\"." {
    Test = "test",
    Validation = "validation",
    HeldOut = "held-out training",
});

/// The photos of a data set by their parts.
pub(super) struct Photos {
    pub(super) train: Arc<dyn Dataset>,
    /// What is fitted to: positions in `train`, ascending.
    pub(super) fit: Vec<usize>,
    /// The set of what is kept out of all fitting: `train`, or the validation split.
    pub(super) held: Arc<dyn Dataset>,
    /// What of it: positions in `held`, ascending.
    pub(super) held_out: Vec<usize>,
    /// What the table is of; `None` without labels.
    pub(super) queries: Option<Queries>,
    /// The set of test or validation photos that are embedded for the table.
    pub(super) judged: Option<Arc<dyn Dataset>>,
}

impl Photos {
    pub(super) fn of(splits: &Splits, options: &AdaptOptions) -> Self {
        let (train, settings) = (Arc::clone(&splits.train), &options.settings);
        let (fit, held, held_out) = match options.apart {
            true => {
                let held = Arc::clone(&splits.val);
                let photos = held.len().min(settings.held_out_max);
                ((0..train.len()).collect(), held, (0..photos).collect())
            }
            false => {
                let (fit, held_out) = held_out(train.as_ref(), settings);
                (fit, Arc::clone(&train), held_out)
            }
        };
        let labelled = |set: &Arc<dyn Dataset>| set.label(0).is_some();
        let (mut queries, mut judged) = (None, None);
        if options.judge && labelled(&train) {
            let test = splits.test.as_ref().filter(|test| labelled(test));
            (queries, judged) = match (test, labelled(&splits.val) && !options.apart) {
                (Some(test), _) => (Some(Queries::Test), Some(Arc::clone(test))),
                (None, true) => (Some(Queries::Validation), Some(Arc::clone(&splits.val))),
                (None, false) => (Some(Queries::HeldOut), None),
            };
        }
        Self {
            train,
            fit,
            held,
            held_out,
            queries,
            judged,
        }
    }
}

/// Photos to fit to, and photos that are kept out: those whose names have the lowest hashes, so that a photo that is added
/// moves few others. Never by labels.
fn held_out(train: &dyn Dataset, settings: &AdaptSettings) -> (Vec<usize>, Vec<usize>) {
    let n = train.len();
    let mut hashed: Vec<(String, usize)> = (0..n)
        .map(|index| {
            let name = format!("{}:{}", settings.seed, train.id(index));
            (digest::of_bytes(name.as_bytes()), index)
        })
        .collect();
    hashed.sort_unstable();
    let mut held: Vec<usize> = hashed.into_iter().map(|(_, index)| index).collect();
    held.truncate(count(n, settings));
    held.sort_unstable();
    let fit = (0..n).filter(|index| held.binary_search(index).is_err());
    (fit.collect(), held)
}

/// How many of `n` photos are held out: the share that is asked for, or the least number where that leaves as many to
/// fit to, and always two of them.
fn count(n: usize, settings: &AdaptSettings) -> usize {
    if settings.held_out <= 0. {
        return 0;
    }
    let share = (settings.held_out * n as f64).round() as usize;
    let least = settings.held_out_min.min(settings.held_out_max);
    let wanted = share.min(settings.held_out_max);
    let wanted = match wanted < least && 2 * least <= n {
        true => least,
        false => wanted.max(1),
    };
    wanted.min(n.saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_held_out_or_fifty_where_as_many_are_left() {
        let settings = AdaptSettings::default();
        let counts: Vec<usize> = [0, 1, 2, 3, 40, 99, 100, 300, 1823, 100_000]
            .map(|n| count(n, &settings))
            .to_vec();
        assert_eq!(counts, [0, 0, 0, 1, 4, 10, 50, 50, 182, 2000]);
        let none = AdaptSettings {
            held_out: 0.,
            ..settings
        };
        assert_eq!(count(1000, &none), 0);
    }
}
