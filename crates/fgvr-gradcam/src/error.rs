//! What can be wrong with plain values.

/// Why nothing could be computed from slices. The functions on tensors say the same in candle's error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A dimension of zero.
    #[error("{op}: {name} is {shape:?}, expected no empty dimension")]
    Empty {
        /// The function.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A number of values that does not make the shape.
    #[error("{op}: {name} has {found} values, expected {expected}")]
    Length {
        /// The function.
        op: &'static str,
        /// The argument.
        name: &'static str,
        /// Its number of values.
        found: usize,
        /// What it takes.
        expected: String,
    },
    /// [`Importance::Centred`](crate::Importance::Centred) without a mean.
    #[error("importance: the centred kind needs the mean feature of a bank")]
    Mean,
    /// A map to be drawn holds a value that is negative or not finite.
    #[error("overlay: map value {value} at ({row}, {column}), expected a finite value >= 0")]
    MapValue {
        /// The value.
        value: f32,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
}

#[cfg(feature = "candle")]
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        Self::msg(error)
    }
}

/// An error unless `found` values are `expected`, which `shape` puts in words.
pub(crate) fn expect(
    op: &'static str,
    name: &'static str,
    found: usize,
    expected: usize,
    shape: impl FnOnce() -> String,
) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    let expected = format!("{expected} = {}", shape());
    Err(Error::Length {
        op,
        name,
        found,
        expected,
    })
}
