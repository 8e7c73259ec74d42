//! Decodes features, pooled or a map, into images, with the reconstruction loss.
//!
//! [`ConvDecoder`] is a [`Decoder`](fgvr_nn::Decoder) on fgvr-nn's tape; [`reconstruction_loss`] is
//! on candle's autograd and starts the backward pass at the images it made.

mod block;
mod config;
mod conv_decoder;
mod input;
mod reconstruction;

pub use config::DecoderConfig;
pub use conv_decoder::ConvDecoder;
pub use input::DecoderInput;
pub use reconstruction::{MeanImage, psnr, reconstruction_loss};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
pub struct ReadmeDoctests;
