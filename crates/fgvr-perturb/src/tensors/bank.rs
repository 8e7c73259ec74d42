//! The bank of features as candle's tensors.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, bail};

use super::values::{expect_dims, rows_and_channels};
use crate::{Error, slices};

/// The last `capacity` feature vectors, un-normalised: [`slices::FeatureBank`], with tensors in and out.
///
/// Statistics are computed in f64 from all stored rows in slot order when first asked for after a
/// push, and kept until the next push. So they depend on the stored rows and their slots only, and a bank that
/// [`FeatureBank::load_state`] restored gives the same bits as one that never stopped.
///
/// Variances divide by the number of rows. Tensors that come out are f32 on the CPU.
#[derive(Debug)]
pub struct FeatureBank {
    bank: slices::FeatureBank,
}

impl FeatureBank {
    /// An empty bank of `capacity` rows of `width` channels. With `normalise`,
    /// [`FeatureBank::variance`] is that of the L2-normalised rows.
    ///
    /// # Errors
    /// A capacity or a width of zero.
    pub fn new(capacity: usize, width: usize, normalise: bool) -> Result<Self> {
        let bank = slices::FeatureBank::new(capacity, width, normalise)?;
        Ok(Self { bank })
    }

    /// Number of stored rows, at most the capacity.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bank.len()
    }

    /// Whether nothing has been stored yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bank.is_empty()
    }

    /// C.
    #[must_use]
    pub fn width(&self) -> usize {
        self.bank.width()
    }

    /// The number of rows the bank can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bank.capacity()
    }

    /// Stores the rows of `pooled` (N, C) as f32; the oldest make room.
    ///
    /// # Errors
    /// Another shape, a value that is not finite, or a bank of pairs; nothing is stored then.
    pub fn push(&mut self, pooled: &Tensor) -> Result<()> {
        let rows = self.checked("pooled", pooled)?;
        Ok(self.bank.push(&rows)?)
    }

    /// Stores features of two views of the same images, (N, C) each, row by row.
    /// [`FeatureBank::between`] needs both; all other statistics are of `first`.
    ///
    /// # Errors
    /// Another shape, a value that is not finite, or a bank of pairs; nothing is stored then; shapes that differ; a
    /// bank to which single rows were pushed.
    pub fn push_pair(&mut self, first: &Tensor, second: &Tensor) -> Result<()> {
        expect_dims("feature bank push_pair", "second", second, first.dims())?;
        let (first, second) = (
            self.checked("first", first)?,
            self.checked("second", second)?,
        );
        Ok(self.bank.push_pair(&first, &second)?)
    }

    /// The values of rows of the bank's width, as f32.
    fn checked(&self, name: &str, rows: &Tensor) -> Result<Vec<f32>> {
        let (n, _) = rows_and_channels("feature bank push", name, rows)?;
        expect_dims("feature bank push", name, rows, &[n, self.width()])?;
        rows.detach()
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1()
    }

    /// Variance (C) of each channel over the bank: of the L2-normalised rows, or of the rows as they
    /// are if the bank was made without `normalise`.
    ///
    /// # Errors
    /// An empty bank.
    pub fn variance(&self) -> Result<Tensor> {
        vector(self.bank.variance())
    }

    /// Standard deviation (C) of each channel of the un-normalised rows.
    ///
    /// # Errors
    /// An empty bank.
    pub fn std(&self) -> Result<Tensor> {
        vector(self.bank.std())
    }

    /// Mean (C) of the un-normalised rows.
    ///
    /// # Errors
    /// An empty bank.
    pub fn mean(&self) -> Result<Tensor> {
        vector(self.bank.mean())
    }

    /// The fraction of channels that are zero in every row of the bank.
    ///
    /// # Errors
    /// An empty bank.
    pub fn dead(&self) -> Result<f64> {
        Ok(self.bank.dead()?)
    }

    /// Variance between images (C): the covariance, over images, of a channel in the first and in the
    /// second view, over the square of its mean (0 where the mean is 0). Free of the channel's scale
    /// and of noise that is not shared by the views; it may be slightly negative.
    ///
    /// # Errors
    /// A bank that is empty, or to which no pairs were pushed.
    pub fn between(&self) -> Result<Tensor> {
        vector(self.bank.between())
    }

    /// What a checkpoint must hold: `features` (len, C) in slot order, `position` (1), and for a bank
    /// of pairs `second_features` (len, C). An empty bank has a `position` only.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let position = Tensor::from_vec(vec![self.bank.position() as i64], 1, &Device::Cpu)?;
        let mut state = BTreeMap::from([("position".to_owned(), position)]);
        let rows = [
            ("features", self.bank.rows()),
            ("second_features", self.bank.seconds()),
        ];
        for (name, rows) in rows {
            if !rows.is_empty() {
                let rows = Tensor::from_slice(rows, (self.len(), self.width()), &Device::Cpu)?;
                state.insert(name.to_owned(), rows);
            }
        }
        Ok(state)
    }

    /// Restores what [`FeatureBank::state`] returned, in a bank of the same capacity and width.
    ///
    /// # Errors
    /// Missing tensors, other shapes, values that are not finite; nothing is changed then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        const OP: &str = "feature bank load_state";
        let Some(position) = state.get("position") else {
            bail!("{OP}: position is missing");
        };
        expect_dims(OP, "position", position, &[1])?;
        let position = position.to_device(&Device::Cpu)?.to_vec1::<i64>()?[0];
        let load = |name| match state.get(name) {
            Some(rows) => self.checked(name, rows),
            None => Ok(Vec::new()),
        };
        let (rows, seconds) = (load("features")?, load("second_features")?);
        let Ok(next) = usize::try_from(position) else {
            bail!("{OP}: position {position}, expected 0 or above");
        };
        Ok(self.bank.restore(rows, seconds, next)?)
    }
}

fn vector(values: std::result::Result<Vec<f32>, Error>) -> Result<Tensor> {
    let values = values?;
    let width = values.len();
    Tensor::from_vec(values, width, &Device::Cpu)
}
