#![doc = include_str!("../README.md")]
//!
//! # How it is divided
//! [`ResNet`], [`EfficientNet`] and [`Vit`] are [`Encoder`](fgvr_nn::Encoder)s: images (N, 3, H, W) in, the last feature
//! map (N, C, h, w) and one vector an image (N, C) out. [`Backbone`] is any of them, by the name of
//! an [`Architecture`] and the options of an [`EncoderConfig`]. [`FrozenBackbone`] is a snapshot of
//! one, made to embed many images. [`weights`] reads what other programs trained, [`export`] writes
//! what timm, torchvision and transformers read, and [`hub`] fetches and publishes either.

mod architecture;
mod backbone;
mod block;
mod config;
mod convolutional;
mod efficientnet;
mod encoder_config;
mod error;
pub mod export;
mod frozen;
pub mod hub;
mod intermediates;
#[cfg(test)]
mod named;
mod resnet;
mod save;
mod text;
pub mod vit;
pub mod weights;

pub use architecture::Architecture;
pub use backbone::Backbone;
/// The release of candle whose tensors are taken and given.
pub use candle_core;
pub use config::{ResNetConfig, Stem};
pub use efficientnet::{EfficientNet, EfficientNetConfig, Padding};
pub use encoder_config::{EncoderConfig, NetworkConfig};
pub use error::Error;
pub use frozen::FrozenBackbone;
pub use hub::{HubReference, ReferenceError};
pub use resnet::ResNet;
pub use save::{Overwrite, save};
pub use vit::{Initialisation, Pooling, Positions, Vit, VitConfig};
pub use weights::{AdaptationLayer, LoadOptions, LoadReport, Source, Weights, load};
