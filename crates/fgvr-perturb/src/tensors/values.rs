//! Shapes and values of tensors.

use candle_core::{DType, Device, Result, Tensor, bail};

/// (N, C) of `tensor`.
pub(crate) fn rows_and_channels(op: &str, name: &str, tensor: &Tensor) -> Result<(usize, usize)> {
    match tensor.dims() {
        &[n, c] if n * c > 0 => Ok((n, c)),
        dims => bail!("{op}: {name} is {dims:?}, expected (N, C) with no empty dimension"),
    }
}

/// N, C and the number of places of (N, C), which has one, or of (N, C, h, w).
pub(crate) fn rows_channels_and_places(
    op: &str,
    name: &str,
    tensor: &Tensor,
) -> Result<[usize; 3]> {
    match tensor.dims() {
        &[n, c] if n * c > 0 => Ok([n, c, 1]),
        &[n, c, h, w] if n * c * h * w > 0 => Ok([n, c, h * w]),
        dims => {
            bail!("{op}: {name} is {dims:?}, expected (N, C) or (N, C, h, w), no dimension empty")
        }
    }
}

/// An error unless `tensor` has the dims `expected`.
pub(crate) fn expect_dims(op: &str, name: &str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.dims() != expected {
        bail!("{op}: {name} is {:?}, expected {expected:?}", tensor.dims());
    }
    Ok(())
}

/// The values in row order as f64, which holds every value of the smaller types.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1()
}
