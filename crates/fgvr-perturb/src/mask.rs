//! Which dimensions of which image do not discriminate.

use candle_core::{Result, Tensor, bail};

use crate::RandomKey;
use crate::values::{expect_dims, expect_images, finite, rows_and_channels};

/// How the two criteria, low variance and low importance, make one mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum MaskRule {
    /// Low in either.
    #[default]
    Union,
    /// Low in both.
    Intersection,
    /// Low variance only: the same mask for every image.
    Variance,
    /// Low importance only.
    Importance,
    /// Every dimension.
    All,
    /// No dimension.
    None,
}

/// Masks of the same size that should not work as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Control {
    /// The mask itself.
    #[default]
    None,
    /// As many dimensions of each image, drawn at random.
    Random,
    /// As many dimensions of each image, the highest in the joint rank of which the mask is the
    /// lowest part. With `a = rank of variance / number taken by variance` and `b` likewise for
    /// importance, that rank is by `min(a, b)` for the union, `max(a, b)` for the intersection, and by
    /// the one criterion otherwise. It shares nothing with the mask as long as the mask takes no more
    /// than half of the dimensions.
    Inverted,
}

/// What goes into the mask.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct MaskConfig {
    /// Share of the dimensions that count as of low variance, in [0, 1].
    pub rho_variance: f64,
    /// Share of the dimensions of each image that count as of low importance, in [0, 1].
    pub rho_importance: f64,
    /// How the criteria are joined.
    pub rule: MaskRule,
    /// The mask, or a control of equal size.
    pub control: Control,
    /// Rank each image's importance by itself, or the batch's mean importance for all.
    pub per_sample: bool,
}

impl Default for MaskConfig {
    fn default() -> Self {
        Self {
            rho_variance: 0.25,
            rho_importance: 0.25,
            rule: MaskRule::Union,
            control: Control::None,
            per_sample: true,
        }
    }
}

/// What a mask turned out to be.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MaskStats {
    /// Share of all (image, dimension) entries that are masked.
    pub fraction: f64,
    /// Agreement of the two criteria, |both| / |either|, before rule and control; 0 if both are empty.
    /// Two unrelated criteria of 25 % have 1/7.
    pub overlap: f64,
    /// Share of the masked entries whose dimension has no variance at all; 0 for an empty mask.
    pub constant: f64,
}

/// The mask (N, C), 1 where a dimension does not discriminate and 0 elsewhere, f32 on the device of
/// `importance`.
///
/// `variance` (C) comes from a [`crate::FeatureBank`], `importance` (N, C) from the gradient of the
/// loss; `images` are the N images' indices in their data set.
///
/// Exactly `floor(rho_variance * C)` dimensions count as of low variance, and in each row exactly
/// `floor(rho_importance * C)` as of low importance (the product is rounded up if it misses a whole
/// number by less than 1e-9). Equal values are ordered by a hash of (seed, step, image, channel), never
/// by their index.
///
/// # Errors
/// Shapes that differ, values that are not finite, and a rho outside [0, 1].
pub fn non_discriminative_mask(
    variance: &Tensor,
    importance: &Tensor,
    cfg: &MaskConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<Tensor> {
    Ok(non_discriminative_mask_with_stats(variance, importance, cfg, key, images)?.0)
}

/// As [`non_discriminative_mask`], with what there is to say about it.
///
/// # Errors
/// As [`non_discriminative_mask`].
pub fn non_discriminative_mask_with_stats(
    variance: &Tensor,
    importance: &Tensor,
    cfg: &MaskConfig,
    key: RandomKey,
    images: &[u32],
) -> Result<(Tensor, MaskStats)> {
    const OP: &str = "non_discriminative_mask";
    let (n, c) = rows_and_channels(OP, "importance", importance)?;
    expect_dims(OP, "variance", variance, &[c])?;
    expect_images(OP, images, n)?;
    let low_variance = count("rho_variance", cfg.rho_variance, c)?;
    let low_importance = count("rho_importance", cfg.rho_importance, c)?;
    let variances = finite(OP, "variance", variance)?;
    let importances = finite(OP, "importance", importance)?;

    let by_variance = ranks(&variances, key, None);
    let by_mean = match cfg.per_sample {
        true => None,
        false => Some(ranks(&mean_in_image_order(&importances, images), key, None)),
    };
    let mut mask = Vec::with_capacity(n * c);
    let (mut masked, mut constant, mut both, mut either) = (0, 0, 0, 0);
    for (row, image) in importances.chunks_exact(c).zip(images) {
        let own;
        let by_importance = match &by_mean {
            Some(ranks) => ranks,
            None => {
                own = ranks(row, key, Some(*image));
                &own
            }
        };
        let places: Vec<Place> = (0..c)
            .map(|at| {
                Place::new(
                    by_variance[at],
                    low_variance,
                    by_importance[at],
                    low_importance,
                )
            })
            .collect();
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
            .zip(&variances)
            .filter(|(m, v)| **m && **v == 0.)
            .count();
        mask.extend(chosen.into_iter().map(|m| if m { 1f32 } else { 0. }));
    }
    let share = |part: usize, of: usize| if of == 0 { 0. } else { part as f64 / of as f64 };
    let stats = MaskStats {
        fraction: share(masked, n * c),
        overlap: share(both, either),
        constant: share(constant, masked),
    };
    Ok((Tensor::from_vec(mask, (n, c), importance.device())?, stats))
}

/// Agreement |both| / |either| of two masks of equal shape, such as those of two steps; 0 if both are
/// empty.
///
/// # Errors
/// Shapes that differ, and values that are not finite.
pub fn mask_overlap(a: &Tensor, b: &Tensor) -> Result<f64> {
    expect_dims("mask_overlap", "b", b, a.dims())?;
    let (a, b) = (
        finite("mask_overlap", "a", a)?,
        finite("mask_overlap", "b", b)?,
    );
    let both = a
        .iter()
        .zip(&b)
        .filter(|(a, b)| **a != 0. && **b != 0.)
        .count();
    let either = a
        .iter()
        .zip(&b)
        .filter(|(a, b)| **a != 0. || **b != 0.)
        .count();
    Ok(if either == 0 {
        0.
    } else {
        both as f64 / either as f64
    })
}

/// A channel's ranks, each over the number that the criterion takes: below 1 where it is low.
struct Place {
    variance: f64,
    importance: f64,
}

impl Place {
    fn new(variance: usize, taken_by_variance: usize, importance: usize, taken: usize) -> Self {
        // A criterion that takes nothing gives infinity for every rank (never 0/0).
        let relative = |rank: usize, taken: usize| (rank as f64 + 0.5) / taken as f64;
        Self {
            variance: relative(variance, taken_by_variance),
            importance: relative(importance, taken),
        }
    }

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
fn count(name: &str, rho: f64, c: usize) -> Result<usize> {
    if !(0. ..=1.).contains(&rho) {
        bail!("non_discriminative_mask: {name} is {rho}, expected a value in [0, 1]");
    }
    Ok(((rho * c as f64 + 1e-9) as usize).min(c))
}
