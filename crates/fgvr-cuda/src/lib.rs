#![doc = include_str!("../README.md")]
//!
//! # How it is divided
//! A kernel is a function of a `.cu` file in `kernels/`, compiled for the GPU at hand by [`nvrtc`] when
//! it is first used and kept in a [`cache`]. What launches it is a function in [`ops`], which checks
//! shapes and decides on the grid. Those functions run on any [`Machine`]: a GPU, or the [`emulator`],
//! which compiles the same files with a C++ compiler and runs each block's threads as fibers, so that a
//! kernel's values, its barriers and its bounds are checked where there is no GPU at all.

#[cfg(any(test, feature = "program"))]
pub mod bench;
pub mod cache;
mod convolution;
pub mod emulator;
mod error;
#[cfg(feature = "cuda")]
pub mod gpu;
mod machine;
mod meter;
pub mod nvrtc;
pub mod ops;
pub mod source;
mod staged;

pub use convolution::{Convolution, Pass, Product};
pub use error::{CompileError, Error, Result};
pub use machine::{Argument, Array, DType, Launch, Machine, Memory};
pub use meter::MemoryUse;
pub use source::{File, Kernel, Module, Real};
pub use staged::Staged;
