//! Slices of values as checked rows.

use super::AdaptError;

/// The number of rows of `width` in `values`, at least one.
pub(super) fn rows(
    op: &'static str,
    name: &'static str,
    values: &[f32],
    width: usize,
) -> Result<usize, AdaptError> {
    if width == 0 {
        return Err(no_width());
    }
    if values.is_empty() || !values.len().is_multiple_of(width) {
        return Err(AdaptError::Length {
            op,
            name,
            found: values.len(),
            expected: format!("a multiple of {width} channels, above 0"),
        });
    }
    Ok(values.len() / width)
}

pub(super) fn no_width() -> AdaptError {
    AdaptError::Config {
        field: "width",
        value: "0".to_owned(),
        expected: "at least 1 channel".to_owned(),
    }
}

/// An error that counts the values which are not finite; `place` names the row of the first.
pub(super) fn finite(
    op: &'static str,
    name: &'static str,
    values: &[f32],
    width: usize,
    place: impl Fn(usize) -> String,
) -> Result<(), AdaptError> {
    let Some(first) = values.iter().position(|value| !value.is_finite()) else {
        return Ok(());
    };
    let bad = values[first..].iter().filter(|value| !value.is_finite());
    Err(AdaptError::NotFinite {
        op,
        name,
        count: bad.count(),
        total: values.len(),
        value: values[first],
        place: place(first / width),
        channel: first % width,
    })
}

/// [`rows()`] that are [`finite`].
pub(super) fn finite_rows(
    op: &'static str,
    name: &'static str,
    values: &[f32],
    width: usize,
) -> Result<usize, AdaptError> {
    let n = rows(op, name, values, width)?;
    finite(op, name, values, width, |row| format!("row {row}"))?;
    Ok(n)
}
