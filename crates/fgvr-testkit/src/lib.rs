#![doc = include_str!("../README.md")]

mod close;
pub mod formula;
mod golden;
mod gradcheck;
mod hub;
mod random;
mod skip;

pub use close::{assert_close, assert_close_each, assert_close_values, relative_error};
pub use golden::{Golden, golden, golden_path};
pub use gradcheck::{GradCheck, gradcheck, gradcheck_tensors};
pub use hub::{LoopbackHub, Misbehaviour, Request};
pub use random::{normal, normal_values, rng, uniform, uniform_values};
pub use skip::skipped;
