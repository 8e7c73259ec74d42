#![doc = include_str!("../README.md")]
//!
//! # Layouts
//! Images and feature maps are (N, C, H, W) at every public edge; inside, [`Activation`] keeps them
//! channels-last, (N, H, W, C).

mod buffer;
mod device;
mod model;
mod named;
mod parameter_gradients;
mod parameters;
mod partly_frozen;
mod tape;

pub mod images;
pub mod kernels;
pub mod layers;
pub mod optim;

pub use buffer::Buffer;
pub use device::{Device, Exhausted, Precision};
/// What a [`Device`] is made from: machines, their emulator, the type of maps.
pub use fgvr_cuda as cuda;
pub use model::{Decoder, Encoder, FeatureMaps, Features, NormMode};
pub use parameter_gradients::ParameterGradients;
pub use parameters::Parameters;
pub use partly_frozen::PartlyFrozen;
pub use tape::{Activation, FrozenVariables, Gradients, Staged, Tape};
/// The release of candle whose tensors are taken and given, and whose builder names variables.
pub use {candle_core, candle_nn};
