//! What launches the kernels: each function checks its operands and decides on the grid.
//!
//! Grids depend on shapes alone, never on the GPU, so that sums are added in the same order everywhere.

mod activation;
pub mod attention;
pub mod augment;
pub mod average;
pub mod bank;
pub mod batch_norm;
mod columns;
pub mod cosine;
pub mod depthwise;
pub mod elementwise;
pub mod finite;
pub mod gather;
pub mod gelu;
pub mod importance;
pub mod info_nce;
pub mod l2_normalise;
pub mod layer_norm;
pub mod layout;
pub mod mask;
pub mod optimizer;
pub mod pad;
pub mod patches;
pub mod perturb;
pub mod pool;
pub mod queue;
pub mod resize;
mod rows;
pub mod softmax;
pub mod squared_error;
mod tensors;
pub mod tokens;
pub mod unit_rows;

pub use activation::ActivationFunction;
pub use rows::Rows;
