#![doc = include_str!("../README.md")]
//!
//! # How it is computed
//! For features pooled by their mean over places, the Grad-CAM weight of channel `c` is
//! `mean_places dL/dF_c = (1/(h*w)) dL/dh_c`: the gradient at the pooled vector is all that is needed
//! to rank channels ([`importance()`]), and the gradient at the map to draw places ([`grad_cam()`]).
//! Neither needs the network that made the features.
//!
//! # Sign
//! The gradient is that of a **loss**, and no minus sign is put in front of it: [`grad_cam()`] shows the
//! places whose activation *raises* the loss. [`Sign::LowersLoss`] shows those that lower it. For a
//! score (a class logit), which one wants to be high, the former is the usual Grad-CAM.

mod colour_map;
mod error;
mod grad_cam;
mod importance;
mod overlay;
mod real;
pub mod slices;
#[cfg(feature = "candle")]
mod tensors;

/// The release of candle whose tensors the functions take.
#[cfg(feature = "candle")]
pub use candle_core;
pub use colour_map::ColourMap;
pub use error::Error;
pub use grad_cam::Sign;
pub use importance::Importance;
#[cfg(feature = "candle")]
pub use tensors::{grad_cam, grad_cam_of, grad_cam_signed, importance, overlay};
