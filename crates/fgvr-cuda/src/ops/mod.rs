//! What launches the kernels: each function checks its operands and decides on the grid.
//!
//! Grids depend on shapes alone, never on the GPU, so that sums are added in the same order everywhere.

pub mod average;
pub mod bank;
pub mod batch_norm;
pub mod importance;
pub mod mask;
pub mod optimizer;
pub mod perturb;
mod tensors;
