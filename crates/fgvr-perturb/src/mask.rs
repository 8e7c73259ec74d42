//! Which dimensions of which image do not discriminate.

mod of_values;

pub(crate) use of_values::{of_values, overlap};

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

impl MaskRule {
    /// Whether it ranks by importance. The others need none.
    #[must_use]
    pub fn needs_importance(self) -> bool {
        matches!(self, Self::Union | Self::Intersection | Self::Importance)
    }
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
    /// Share of the dimensions that count as of low variance, in [0, 1]. By default 0.25.
    pub rho_variance: f64,
    /// Share of the dimensions of each image that count as of low importance, in [0, 1]. By default 0.25.
    pub rho_importance: f64,
    /// How the criteria are joined. By default [`MaskRule::Union`].
    pub rule: MaskRule,
    /// The mask, or a control of equal size. By default the mask.
    pub control: Control,
    /// Rank each image's importance by itself (the default), or the batch's mean importance for all.
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
    /// Agreement of the two criteria, |both| / |either|, before rule and control; 0 if both are empty, and where
    /// there is no importance. Two unrelated criteria of 25 % have 1/7.
    pub overlap: f64,
    /// Share of the masked entries whose dimension has no variance at all; 0 for an empty mask.
    pub constant: f64,
}
