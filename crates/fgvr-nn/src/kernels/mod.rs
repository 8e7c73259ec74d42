//! Kernels over channels-last f32 slices.

pub mod activation;
pub mod attention;
pub mod bicubic;
pub mod conv;
pub mod gelu;
pub mod heap;
pub mod l2_normalise;
pub mod layer_norm;
pub mod matmul;
pub mod norm;
pub mod patches;
pub mod pool;
pub mod resize;
pub mod rows;
pub mod simd;
pub mod softmax;

mod exp;
mod sums;
mod target;
