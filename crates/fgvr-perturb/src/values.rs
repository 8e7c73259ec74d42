//! Slices as checked values.

use crate::Error;

/// An error unless there is one image index for each of `n` rows.
pub(crate) fn expect_images(op: &'static str, images: &[u32], n: usize) -> Result<(), Error> {
    if images.len() == n {
        return Ok(());
    }
    Err(Error::Images {
        op,
        found: images.len(),
        expected: n,
    })
}

/// Plain values as f64.
pub(crate) fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// An error that names the first value which is not finite, by its row and its channel: of (N, `width`, `places`).
pub(crate) fn finite<T: Copy + Into<f64>>(
    op: &'static str,
    name: &'static str,
    values: &[T],
    width: usize,
    places: usize,
) -> Result<(), Error> {
    let bad = |value: &T| !Into::<f64>::into(*value).is_finite();
    match values.iter().position(bad) {
        None => Ok(()),
        Some(at) => Err(Error::NotFinite {
            op,
            name,
            value: values[at].into(),
            row: at / places / width,
            channel: at / places % width,
        }),
    }
}
