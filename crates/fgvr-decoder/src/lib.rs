#![doc = include_str!("../README.md")]
//!
//! [`ConvDecoder`] is a [`Decoder`](fgvr_nn::Decoder) on fgvr-nn's tape; [`reconstruction_loss`] is
//! on candle's autograd and starts the backward pass at the images it made.

mod block;
mod config;
mod conv_decoder;
mod input;
mod reconstruction;

/// The release of candle whose tensors are taken and given.
pub use candle_core;
pub use config::DecoderConfig;
pub use conv_decoder::ConvDecoder;
pub use input::DecoderInput;
pub use reconstruction::{MeanImage, psnr, reconstruction_loss};
