//! Kernels over channels-last f32 slices.

pub mod conv;
pub mod matmul;
pub mod norm;
pub mod pool;
pub mod resize;
pub mod rows;
pub mod simd;
