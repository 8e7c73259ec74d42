//! Layers that train right and fast: a reverse tape over channels-last buffers, with candle tensors
//! at the edges.
//!
//! candle's autograd is right for heads and losses, and wrong, missing or slow for convolutional
//! trunks. So a trunk runs on this crate's [`Tape`]; its outputs re-enter candle as leaf variables;
//! after candle's `loss.backward()` the tape carries the gradients of those leaves on through the
//! trunk.
//!
//! Images and feature maps are (N, C, H, W) at every public edge; inside, [`Map`] keeps them
//! channels-last, (N, H, W, C).

mod buffer;
mod device;
mod model;
mod parameter_gradients;
mod parameters;
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
pub use tape::{Gradients, Map, Staged, Tape};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
