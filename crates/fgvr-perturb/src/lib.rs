#![doc = include_str!("../README.md")]
//!
//! # Where this is from
//! The two criteria, low variance and low importance, are the abstract's of arXiv:2407.14676; ranks, rates, noise and
//! controls are this project's design choices, each a field of a configuration.

#[cfg(feature = "candle")]
mod adapt;
pub mod draws;
mod error;
mod key;
mod mask;
mod moments;
mod perturb;
pub mod slices;
#[cfg(feature = "candle")]
mod tensors;
mod values;

#[cfg(feature = "candle")]
pub use adapt::{
    AdaptConfig, AdaptError, AdaptKind, Adaptation, Fitted, Fitter, NuisanceCovariance,
    mutual_neighbours, neighbour_covariance, random_orthogonal,
};
/// The release of candle whose tensors the functions take.
#[cfg(feature = "candle")]
pub use candle_core;
pub use error::Error;
pub use key::RandomKey;
pub use mask::{Control, MaskConfig, MaskRule, MaskStats};
pub use perturb::{Noise, NoiseConfig};
#[cfg(feature = "candle")]
pub use tensors::{
    FeatureBank, mask_overlap, non_discriminative_mask, non_discriminative_mask_with_stats, perturb,
};
