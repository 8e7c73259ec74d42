//! Each layer on the tape and on candle's autograd, against naive f64 references (gradients by
//! central differences) and against PyTorch.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod attention;
mod autograd;
mod conv;
mod conv_norm;
mod depthwise;
mod frozen;
mod linear;
mod norm;
mod places;
mod shapes;
mod support;
mod tokens;
#[path = "../shared/trained.rs"]
mod trained;
mod vit;
