//! Tensors as checked values on the host.

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

/// An error unless there is one image index for each of `n` rows.
pub(crate) fn expect_images(op: &str, images: &[u32], n: usize) -> Result<()> {
    if images.len() != n {
        bail!("{op}: images has {} indices, expected {n}", images.len());
    }
    Ok(())
}

/// The values in row order as f64, which holds every value of the smaller types; an error names the
/// first that is not finite.
pub(crate) fn finite(op: &str, name: &str, tensor: &Tensor) -> Result<Vec<f64>> {
    let values = tensor
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?
        .flatten_all()?
        .to_vec1::<f64>()?;
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let width = tensor.dims().last().copied().unwrap_or(1).max(1);
        let (row, channel) = (at / width, at % width);
        bail!(
            "{op}: {name} is {} at row {row}, channel {channel}",
            values[at]
        );
    }
    Ok(values)
}
