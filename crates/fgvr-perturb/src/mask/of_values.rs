//! Ranks, and the mask that they make.

use super::{Control, MaskConfig, MaskRule, MaskStats};
use crate::values::finite;
use crate::{Error, RandomKey};

const OP: &str = "non_discriminative_mask";

/// The mask (N, C) by `variance` (C) and `importance` (N, C), row by row. N is the number of `images`; lengths are the
/// caller's care.
///
/// # Errors
/// Values that are not finite, a share outside [0, 1], a rule without what it ranks by.
pub(crate) fn of_values(
    variance: &[f64],
    importance: Option<&[f64]>,
    cfg: &MaskConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<(Vec<bool>, MaskStats), Error> {
    let (n, c) = (images.len(), variance.len());
    let low_variance = count("rho_variance", cfg.rho_variance, c)?;
    let low_importance = count("rho_importance", cfg.rho_importance, c)?;
    finite(OP, "variance", variance, c, 1)?;
    match importance {
        Some(importance) => finite(OP, "importance", importance, c, 1)?,
        None if cfg.rule.needs_importance() => {
            return Err(Error::NoImportance { rule: cfg.rule });
        }
        None => {}
    }

    let by_variance = ranks(variance, key, None);
    let by_mean = importance
        .filter(|_| !cfg.per_sample)
        .map(|rows| ranks(&mean_in_image_order(rows, images), key, None));
    let mut mask = Vec::with_capacity(n * c);
    let (mut masked, mut constant, mut both, mut either) = (0, 0, 0, 0);
    for (at, image) in images.iter().enumerate() {
        let own;
        let by_importance = match (&by_mean, importance) {
            (Some(ranks), _) => Some(ranks),
            (None, Some(rows)) => {
                own = ranks(&rows[at * c..][..c], key, Some(*image));
                Some(&own)
            }
            (None, None) => None,
        };
        let place = |channel: usize| Place {
            variance: relative(by_variance[channel], low_variance),
            importance: by_importance.map_or(f64::INFINITY, |ranks| {
                relative(ranks[channel], low_importance)
            }),
        };
        let places: Vec<Place> = (0..c).map(place).collect();
        both += places
            .iter()
            .filter(|p| p.low_variance() && p.low_importance())
            .count();
        either += places
            .iter()
            .filter(|p| p.low_variance() || p.low_importance())
            .count();
        let chosen = controlled(&places, cfg, key, *image);
        masked += chosen.iter().filter(|m| **m).count();
        constant += chosen
            .iter()
            .zip(variance)
            .filter(|(m, v)| **m && **v == 0.)
            .count();
        mask.extend(chosen);
    }
    let stats = MaskStats {
        fraction: share(masked, n * c),
        overlap: share(both, either),
        constant: share(constant, masked),
    };
    Ok((mask, stats))
}

/// Agreement |both| / |either| of two masks; 0 if both are empty.
pub(crate) fn overlap(masks: impl Iterator<Item = (bool, bool)>) -> f64 {
    let (mut both, mut either) = (0, 0);
    for (a, b) in masks {
        both += usize::from(a && b);
        either += usize::from(a || b);
    }
    share(both, either)
}

/// 0 of nothing.
fn share(part: usize, of: usize) -> f64 {
    if of == 0 { 0. } else { part as f64 / of as f64 }
}

/// A channel's ranks, each over the number that the criterion takes: below 1 where it is low. Infinite where there is
/// no such criterion.
struct Place {
    variance: f64,
    importance: f64,
}

/// A rank over the number of ranks taken. A criterion that takes nothing gives infinity for every rank (never 0/0).
fn relative(rank: usize, taken: usize) -> f64 {
    (rank as f64 + 0.5) / taken as f64
}

impl Place {
    fn low_variance(&self) -> bool {
        self.variance < 1.
    }

    fn low_importance(&self) -> bool {
        self.importance < 1.
    }

    /// The joint rank: the mask is where it is below 1. See [`Control::Inverted`].
    fn joint(&self, rule: MaskRule) -> f64 {
        match rule {
            MaskRule::Union => self.variance.min(self.importance),
            MaskRule::Intersection => self.variance.max(self.importance),
            MaskRule::Variance => self.variance,
            MaskRule::Importance => self.importance,
            MaskRule::All => 0.,
            MaskRule::None => f64::INFINITY,
        }
    }
}

/// The mask of one image.
fn controlled(places: &[Place], cfg: &MaskConfig, key: RandomKey, image: u32) -> Vec<bool> {
    let joint: Vec<f64> = places.iter().map(|place| place.joint(cfg.rule)).collect();
    let mask: Vec<bool> = joint.iter().map(|rank| *rank < 1.).collect();
    let size = mask.iter().filter(|m| **m).count();
    let mut order: Vec<usize> = (0..places.len()).collect();
    match cfg.control {
        Control::None => return mask,
        Control::Random => {
            order = crate::draws::order(key, image, places.len(), size);
        }
        Control::Inverted => {
            let tie = |channel: usize| (key.tie(Some(image), channel), channel);
            order.sort_unstable_by(|a, b| {
                joint[*b]
                    .total_cmp(&joint[*a])
                    .then_with(|| tie(*a).cmp(&tie(*b)))
            });
        }
    }
    let mut mask = vec![false; places.len()];
    order[..size]
        .iter()
        .for_each(|channel| mask[*channel] = true);
    mask
}

/// The rank of each value, 0 for the lowest; equal values in the order of their hash.
fn ranks(values: &[f64], key: RandomKey, image: Option<u32>) -> Vec<usize> {
    let mut order: Vec<(f64, u64, usize)> = values
        .iter()
        .enumerate()
        // Adding zero makes -0 the equal of 0.
        .map(|(channel, value)| (value + 0., key.tie(image, channel), channel))
        .collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut ranks = vec![0; values.len()];
    for (rank, (_, _, channel)) in order.into_iter().enumerate() {
        ranks[channel] = rank;
    }
    ranks
}

/// Mean over rows, added up in the order of the images' indices so that a batch's order does not
/// change the rounding.
fn mean_in_image_order(rows: &[f64], images: &[u32]) -> Vec<f64> {
    let width = rows.len() / images.len();
    let row = |at: usize| &rows[at * width..][..width];
    let mut order: Vec<usize> = (0..images.len()).collect();
    order.sort_by(|a, b| {
        let values = || {
            row(*a)
                .iter()
                .map(|v| v.to_bits())
                .cmp(row(*b).iter().map(|v| v.to_bits()))
        };
        images[*a].cmp(&images[*b]).then_with(values)
    });
    let mut mean = vec![0.; width];
    for at in order {
        for (sum, value) in mean.iter_mut().zip(row(at)) {
            *sum += value / images.len() as f64;
        }
    }
    mean
}

/// `floor(rho * c)`, forgiving the last bits of a product such as 0.29 * 100.
fn count(field: &'static str, rho: f64, c: usize) -> Result<usize, Error> {
    if !(0. ..=1.).contains(&rho) {
        return Err(Error::Setting {
            op: OP,
            field,
            value: rho,
            expected: "a value in [0, 1]",
        });
    }
    Ok(((rho * c as f64 + 1e-9) as usize).min(c))
}
