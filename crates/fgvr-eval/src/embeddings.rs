//! Features with labels, checked once.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::Error;
use crate::hash::hash;
use crate::product::divide;
use crate::selection::{Labelled, hold_out};

/// Features (N, D) and a class for each.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// (N, D); any floating type, computed in f32.
    pub features: Tensor,
    /// N classes; the numbers need not be consecutive.
    pub labels: Vec<u32>,
}

impl Embeddings {
    /// Checks that there is a label for each of N > 0 rows of D > 0 finite numbers.
    ///
    /// # Errors
    /// What is wrong with them; a value that is not finite is named by row and column.
    pub fn new(features: Tensor, labels: Vec<u32>) -> Result<Self, Error> {
        let set = Self { features, labels };
        set.checked("embeddings", "features")?;
        Ok(set)
    }

    /// Embeddings from plain values: rows of `width` numbers, one after another, as ndarray's standard layout and NumPy's default
    /// order have them.
    ///
    /// # Errors
    /// Values that are no whole rows, and what [`Embeddings::new`] refuses.
    pub fn from_slice(values: &[f32], width: usize, labels: Vec<u32>) -> Result<Self, Error> {
        let n = whole_rows("embeddings", "features", values, width)?;
        let features = Tensor::from_slice(values, (n, width), &Device::Cpu)?;
        Self::new(features, labels)
    }

    /// The features as contiguous f32 on the host.
    pub(crate) fn checked(&self, op: &'static str, name: &'static str) -> Result<Rows, Error> {
        let rows = Rows::of(op, name, &self.features)?;
        if rows.n != self.labels.len() {
            return Err(Error::Labels {
                op,
                name,
                rows: rows.n,
                labels: self.labels.len(),
            });
        }
        Ok(rows)
    }
}

/// A subset for a probe on few labels: `ceil(fraction * n_c)` rows of each class, those first in an
/// order by a hash of (seed, row), in their original order.
///
/// # Errors
/// A fraction outside (0, 1], and what [`Embeddings::new`] refuses.
pub fn label_fraction(set: &Embeddings, fraction: f64, seed: u64) -> Result<Embeddings, Error> {
    let rows = label_fraction_rows(&set.labels, fraction, seed)?;
    set.checked(LABEL_FRACTION, "features")?;
    let labels = rows.iter().map(|row| set.labels[*row]).collect();
    let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
    let index = Tensor::new(rows, set.features.device())?;
    Ok(Embeddings {
        features: set.features.index_select(&index, 0)?,
        labels,
    })
}

const LABEL_FRACTION: &str = "label_fraction";

/// The rows that [`label_fraction`] keeps, by their labels.
///
/// # Errors
/// A fraction outside (0, 1].
pub fn label_fraction_rows(labels: &[u32], fraction: f64, seed: u64) -> Result<Vec<usize>, Error> {
    if !(fraction > 0. && fraction <= 1.) {
        let (field, value) = ("fraction", fraction.to_string());
        return Err(Error::Config {
            op: LABEL_FRACTION,
            field,
            value,
            expected: "a value in (0, 1]",
        });
    }
    let mut kept = Vec::new();
    for rows in by_class(labels, seed).into_values() {
        // The small term forgives the last bits of a product such as 0.07 * 100.
        let count = (fraction * rows.len() as f64 - 1e-9).ceil() as usize;
        kept.extend(&rows[..count.clamp(1, rows.len())]);
    }
    kept.sort_unstable();
    Ok(kept)
}

/// `set` without and with those rows that are held out of each class to choose by, by a hash of (seed, row).
///
/// # Errors
/// No class has two rows.
pub(crate) fn held_out_of(
    set: &Embeddings,
    fraction: f64,
    seed: u64,
) -> Result<[Embeddings; 2], Error> {
    let rows = set.checked("hold_out", "features")?;
    let by_class: Vec<Vec<usize>> = by_class(&set.labels, seed).into_values().collect();
    let targets: Vec<usize> = set.labels.iter().map(|label| *label as usize).collect();
    let [kept, held_out] = hold_out(&rows, &targets, &by_class, fraction)?;
    let set = |part: Labelled| {
        let labels = part.targets.iter().map(|label| *label as u32).collect();
        Embeddings::from_slice(&part.rows.values, rows.d, labels)
    };
    Ok([set(kept)?, set(held_out)?])
}

/// The rows of each class, in an order by a hash of (seed, row).
pub(crate) fn by_class(labels: &[u32], seed: u64) -> BTreeMap<u32, Vec<usize>> {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, label) in labels.iter().enumerate() {
        classes.entry(*label).or_default().push(row);
    }
    for rows in classes.values_mut() {
        rows.sort_by_key(|row| (hash(seed, *row), *row));
    }
    classes
}

/// N rows of D finite numbers.
pub(crate) struct Rows {
    pub(crate) n: usize,
    pub(crate) d: usize,
    pub(crate) values: Vec<f32>,
}

impl Rows {
    /// Mean and variance (over N) of each column, in f64 and in the order of the rows.
    pub(crate) fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.n as f64;
        let mut mean = vec![0.; self.d];
        for row in self.values.chunks_exact(self.d) {
            mean.iter_mut()
                .zip(row)
                .for_each(|(m, v)| *m += f64::from(*v) / n);
        }
        let mut variance = vec![0.; self.d];
        for row in self.values.chunks_exact(self.d) {
            for ((sum, value), mean) in variance.iter_mut().zip(row).zip(&mean) {
                *sum += (f64::from(*value) - mean).powi(2) / n;
            }
        }
        (mean, variance)
    }

    pub(crate) fn of(op: &'static str, name: &'static str, tensor: &Tensor) -> Result<Self, Error> {
        let &[n, d] = tensor.dims() else {
            return Err(shape(op, name, tensor, "(N, D)"));
        };
        if n * d == 0 {
            return Err(shape(op, name, tensor, "(N, D) with N and D above 0"));
        }
        Ok(Self {
            n,
            d,
            values: finite(op, name, tensor)?,
        })
    }

    /// Embeddings from plain values, rows of `width` numbers.
    pub(crate) fn of_slice(
        op: &'static str,
        name: &'static str,
        values: &[f32],
        width: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            n: check_rows(op, name, values, width)?,
            d: width,
            values: values.to_vec(),
        })
    }

    /// An error that says what was expected in place of these rows.
    pub(crate) fn unexpected(
        &self,
        op: &'static str,
        name: &'static str,
        expected: impl Into<String>,
    ) -> Error {
        Error::Shape {
            op,
            name,
            found: vec![self.n, self.d],
            expected: expected.into(),
        }
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.d..][..self.d]
    }

    pub(crate) fn tensor(&self) -> Result<Tensor, Error> {
        Ok(Tensor::from_slice(
            &self.values,
            (self.n, self.d),
            &Device::Cpu,
        )?)
    }

    /// Divides each row by its length; a row of zeros stays.
    pub(crate) fn l2_normalise(&mut self) {
        let lengths = lengths(&self.values, self.d);
        for (row, length) in self.values.chunks_exact_mut(self.d).zip(lengths) {
            divide(row, length);
        }
    }

    /// The rows of these indices.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let values = rows
            .iter()
            .flat_map(|row| self.row(*row))
            .copied()
            .collect();
        Self {
            n: rows.len(),
            d: self.d,
            values,
        }
    }
}

/// The length of each row of `d` values.
pub(crate) fn lengths(values: &[f32], d: usize) -> Vec<f64> {
    let length = |row: &[f32]| {
        let squares = row.iter().map(|v| f64::from(*v).powi(2));
        squares.sum::<f64>().sqrt()
    };
    values.par_chunks_exact(d).map(length).collect()
}

/// The values in order as f32, all of them finite.
pub(crate) fn finite(
    op: &'static str,
    name: &'static str,
    tensor: &Tensor,
) -> Result<Vec<f32>, Error> {
    let values = tensor
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let rows = tensor.dims().first().copied().unwrap_or(1).max(1);
    all_finite(op, name, &values, (values.len() / rows).max(1))?;
    Ok(values)
}

/// An error that names the first value which is not finite, in rows of `width`.
pub(crate) fn all_finite(
    op: &'static str,
    name: &'static str,
    values: &[f32],
    width: usize,
) -> Result<(), Error> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::NotFinite {
            op,
            name,
            row: at / width,
            column: at % width,
            value: values[at],
        }),
    }
}

/// The number of rows of `width` in `values`, at least one, all of them finite.
pub(crate) fn check_rows(
    op: &'static str,
    name: &'static str,
    values: &[f32],
    width: usize,
) -> Result<usize, Error> {
    let n = whole_rows(op, name, values, width)?;
    all_finite(op, name, values, width)?;
    Ok(n)
}

/// The number of rows of `width` in `values`, at least one.
fn whole_rows(
    op: &'static str,
    name: &'static str,
    values: &[f32],
    width: usize,
) -> Result<usize, Error> {
    if width == 0 || values.is_empty() || !values.len().is_multiple_of(width) {
        return Err(Error::Length {
            op,
            name,
            found: values.len(),
            expected: format!("rows of {width} numbers, at least one of one number"),
        });
    }
    Ok(values.len() / width)
}

pub(crate) fn shape(
    op: &'static str,
    name: &'static str,
    tensor: &Tensor,
    expected: impl Into<String>,
) -> Error {
    Error::Shape {
        op,
        name,
        found: tensor.dims().to_vec(),
        expected: expected.into(),
    }
}
