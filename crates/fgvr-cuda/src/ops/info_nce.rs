//! InfoNCE (arXiv:1911.05722, eq. 1), of similarities to a queue or within a batch, and its gradient.

use super::rows::THREADS;
use crate::source::INFO_NCE;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

/// Where a row's positive is.
#[derive(Clone, Copy)]
pub enum Positive<'a> {
    /// Beside the matrix of negatives: similarities (rows) of f32.
    Beside(&'a Array),
    /// A column of the matrix: its index (rows) of u32, below the number of columns.
    Column(&'a Array),
}

/// Similarities whose positives are told from their negatives.
#[derive(Clone, Copy)]
pub struct Contrast<'a> {
    /// (rows, columns) of f32, not yet divided by the temperature.
    pub similarity: &'a Array,
    /// Number of rows, at least 1.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// The positive of each row.
    pub positive: Positive<'a>,
    /// The column that is a row itself, and so no negative (rows) of u32.
    pub own: Option<&'a Array>,
    /// The images of rows and of columns, u32: columns of the row's image, other than its positive, are no
    /// negatives.
    pub images: Option<[&'a Array; 2]>,
    /// T of exp(s / T), above zero.
    pub temperature: f64,
}

/// Where the gradient goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Nowhere: it is not computed.
    Nowhere,
    /// Over the similarities.
    Place,
    /// To a new array of this type.
    New(Real),
}

/// What [`info_nce`] found.
pub struct Found {
    /// For each row: loss, 1 where the positive is above all negatives (a tie counts as a miss) or else 0,
    /// similarity of the positive, sum of those of negatives, their number; (5, rows) of f32.
    pub rows: Array,
    /// Means over rows of loss, of that 1 or 0, of positives, and over all negatives of them, NaN where
    /// there is none; (4) of f32.
    pub means: Array,
    /// Gradient of the similarities (rows, columns).
    pub of_similarity: Option<Array>,
    /// Gradient of positives that stand beside the matrix (rows).
    pub of_positive: Option<Array>,
}

/// The loss of each row, -log( exp(p / T) / (exp(p / T) + sum over negatives n of exp(n / T)) ), and the
/// gradient of its mean over rows times `weight`.
///
/// # Errors
/// Operands of other lengths or types, no rows, a temperature that is not positive; what the machine says.
pub fn info_nce(
    machine: &dyn Machine,
    contrast: &Contrast<'_>,
    weight: f32,
    into: Into,
) -> Result<Found> {
    let Contrast { rows, columns, .. } = *contrast;
    contrast.check()?;
    let similarity = contrast.similarity;
    let new = |dtype, len| Array::new(machine, dtype, len);
    let dtype = match into {
        Into::New(real) => real.into(),
        Into::Nowhere | Into::Place => DType::F32,
    };
    let of_similarity = match into {
        Into::Nowhere => None,
        Into::Place => Some(similarity.clone()),
        Into::New(_) => Some(new(dtype, rows * columns)?),
    };
    let (beside, column) = match contrast.positive {
        Positive::Beside(values) => (Some(values), None),
        Positive::Column(indices) => (None, Some(indices)),
    };
    let of_positive = match (into, beside) {
        (Into::Nowhere, _) | (_, None) => None,
        (_, Some(_)) => Some(new(dtype, rows)?),
    };
    let found = new(DType::F32, 5 * rows)?;
    let means = new(DType::F32, 4)?;
    let module = Module {
        file: &INFO_NCE,
        real: match into {
            Into::New(real) => real,
            Into::Nowhere | Into::Place => Real::F32,
        },
    };
    let start = |kernel, blocks: usize, arguments: &[Argument<'_>]| {
        machine.launch(&Launch {
            module,
            kernel,
            grid: [blocks as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments,
        })
    };
    let arguments = [
        Argument::optional(beside),
        Argument::Array(similarity),
        Argument::optional(column),
        Argument::optional(contrast.own),
        Argument::optional(contrast.images.map(|[of_rows, _]| of_rows)),
        Argument::optional(contrast.images.map(|[_, of_columns]| of_columns)),
        Argument::optional(of_positive.as_ref()),
        Argument::optional(of_similarity.as_ref()),
        Argument::Array(&found),
        Argument::I32(rows as i32),
        Argument::I32(columns as i32),
        Argument::F32((1. / contrast.temperature) as f32),
        Argument::F32((f64::from(weight) / rows as f64) as f32),
    ];
    start("info_nce", rows, &arguments)?;
    let arguments = [
        Argument::Array(&found),
        Argument::Array(&means),
        Argument::I32(rows as i32),
    ];
    start("info_nce_finish", 1, &arguments)?;
    Ok(Found {
        rows: found,
        means,
        of_similarity,
        of_positive,
    })
}

impl Contrast<'_> {
    fn check(&self) -> Result<()> {
        const OP: &str = "info_nce";
        let Self { rows, columns, .. } = *self;
        let wrong = |what, expected: &str, found: String| {
            Err(Error::Shape {
                op: OP,
                what,
                expected: expected.into(),
                found,
            })
        };
        if !(self.temperature > 0. && self.temperature.is_finite()) {
            return wrong(
                "temperature",
                "a positive number",
                self.temperature.to_string(),
            );
        }
        if rows == 0 || i32::try_from(columns).is_err() {
            let found = format!("{rows} and {columns}");
            return wrong("rows and columns", "at least 1 and at most 2^31 - 1", found);
        }
        (self.similarity).expect(OP, "similarity", DType::F32, rows * columns)?;
        match self.positive {
            Positive::Beside(values) => values.expect(OP, "positive", DType::F32, rows)?,
            Positive::Column(indices) => indices.expect(OP, "positive", DType::U32, rows)?,
        }
        if let Some(own) = self.own {
            own.expect(OP, "own column", DType::U32, rows)?;
        }
        if let Some([of_rows, of_columns]) = self.images {
            of_rows.expect(OP, "images of rows", DType::U32, rows)?;
            of_columns.expect(OP, "images of columns", DType::U32, columns)?;
        }
        Ok(())
    }
}
