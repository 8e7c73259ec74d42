//! Finds feature dimensions that do not discriminate, by variance and importance, and perturbs them; and divides
//! out of features what two views of one image differ by.
//!
//! A [`FeatureBank`] of recent features says which dimensions hardly vary over the data; a gradient
//! (fgvr-gradcam's `importance`) says which ones the loss hardly uses. [`non_discriminative_mask`]
//! marks the lowest ranks of either, [`perturb`] moves the marked dimensions and leaves the others as
//! they are, bit for bit.
//!
//! The two criteria are the abstract's of arXiv:2407.14676; ranks, rates, noise and controls are this
//! project's design choices, each a field of a configuration.
//!
//! [`NuisanceCovariance`] gathers the covariance of augmented views within images, [`Adaptation`] is the
//! whitening by it, and [`AdaptKind`] names the controls.
//!
//! All chance comes from (seed, step, image index) alone, so neither the order of a batch nor the
//! number of threads changes anything.

mod adapt;
mod bank;
pub mod draws;
mod key;
mod mask;
mod moments;
mod perturb;
mod values;

pub use adapt::{
    AdaptConfig, AdaptError, AdaptKind, Adaptation, Fitted, Fitter, NuisanceCovariance,
    mutual_neighbours, neighbour_covariance, random_orthogonal,
};
pub use bank::FeatureBank;
pub use key::RandomKey;
pub use mask::{
    Control, MaskConfig, MaskRule, MaskStats, mask_overlap, non_discriminative_mask,
    non_discriminative_mask_with_stats,
};
pub use perturb::{Noise, NoiseConfig, perturb};

/// The README's example, run as a test.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
