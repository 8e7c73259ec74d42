//! What takes and gives candle's tensors. All of it is computed on plain values, on the host.

mod grad_cam;
mod importance;
mod overlay;

use candle_core::{Device, Result, Tensor, WithDType};

pub use grad_cam::{grad_cam, grad_cam_of, grad_cam_signed};
pub use importance::importance;
pub use overlay::overlay;

/// The values of a tensor in the order of its shape.
fn values<T: WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
    tensor
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(T::DTYPE)?
        .flatten_all()?
        .to_vec1()
}
