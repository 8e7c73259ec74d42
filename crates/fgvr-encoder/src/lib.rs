//! Residual encoders with torchvision's parameter names, on fgvr-nn's tape.
//!
//! [`ResNet`] is an [`Encoder`](fgvr_nn::Encoder): images (N, 3, H, W) in, the last feature map
//! (N, C, h, w) and its mean over places (N, C) out. [`FrozenResNet`] is a snapshot of one, made to
//! embed many images. [`save`] and [`load`] exchange its variables with torchvision and timm through
//! safetensors files.

mod block;
mod config;
mod error;
mod frozen;
mod load;
mod resnet;
mod save;

pub use config::{ResNetConfig, Stem};
pub use error::Error;
pub use frozen::FrozenResNet;
pub use load::{LoadReport, load};
pub use resnet::ResNet;
pub use save::{Overwrite, save};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
