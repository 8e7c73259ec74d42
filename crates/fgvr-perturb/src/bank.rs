//! A ring of the last features, and what varies in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use candle_core::{Device, Result, Tensor, bail};

use crate::moments::{BLOCK, Moments};
use crate::values::{expect_dims, finite, rows_and_channels};

/// The last `capacity` feature vectors, un-normalised.
///
/// Statistics are computed in f64 from all stored rows in slot order when first asked for after a
/// push, in one pass over the bank, and kept until the next push. So they depend on the stored rows
/// and their slots only, and a bank that [`FeatureBank::load_state`] restored gives the same bits as
/// one that never stopped. (Running sums would be cheaper, but drift with their history.)
///
/// Variances divide by the number of rows.
#[derive(Debug)]
pub struct FeatureBank {
    capacity: usize,
    width: usize,
    normalise: bool,
    /// Rows in slot order, (len, C).
    rows: Vec<f32>,
    /// Second views of the same images, slot by slot; empty unless rows came as pairs.
    seconds: Vec<f32>,
    /// 1 / |row|, or 0 for a row of zeros; by slot.
    inverse_norms: Vec<f64>,
    /// The slot that the next row goes to.
    next: usize,
    statistics: OnceLock<Statistics>,
}

#[derive(Debug)]
struct Statistics {
    variance: Vec<f64>,
    mean: Vec<f64>,
    std: Vec<f64>,
    dead: f64,
}

impl FeatureBank {
    /// An empty bank of `capacity` rows of `width` channels. With `normalise`,
    /// [`FeatureBank::variance`] is that of the L2-normalised rows.
    ///
    /// # Errors
    /// A capacity or a width of zero.
    pub fn new(capacity: usize, width: usize, normalise: bool) -> Result<Self> {
        if capacity == 0 || width == 0 {
            bail!("feature bank: capacity {capacity} x width {width}, expected both above 0");
        }
        Ok(Self {
            capacity,
            width,
            normalise,
            rows: Vec::new(),
            seconds: Vec::new(),
            inverse_norms: Vec::new(),
            next: 0,
            statistics: OnceLock::new(),
        })
    }

    /// Number of stored rows, at most the capacity.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inverse_norms.len()
    }

    /// Whether nothing has been stored yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inverse_norms.is_empty()
    }

    /// C.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of rows the bank can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Stores the rows of `pooled` (N, C) as f32; the oldest make room.
    ///
    /// # Errors
    /// Another shape, a value that is not finite, or a bank of pairs; nothing is stored then.
    pub fn push(&mut self, pooled: &Tensor) -> Result<()> {
        if !self.seconds.is_empty() {
            bail!("feature bank push: this bank holds pairs of views, use push_pair");
        }
        let rows = self.checked("pooled", pooled)?;
        self.store(&rows, None);
        Ok(())
    }

    /// Stores features of two views of the same images, (N, C) each, row by row.
    /// [`FeatureBank::between`] needs both; all other statistics are of `first`.
    ///
    /// # Errors
    /// As [`FeatureBank::push`], and shapes that differ; a bank to which single rows were pushed.
    pub fn push_pair(&mut self, first: &Tensor, second: &Tensor) -> Result<()> {
        if self.seconds.is_empty() && !self.is_empty() {
            bail!("feature bank push_pair: this bank holds single views, use push");
        }
        expect_dims("feature bank push_pair", "second", second, first.dims())?;
        let (first, second) = (
            self.checked("first", first)?,
            self.checked("second", second)?,
        );
        self.store(&first, Some(&second));
        Ok(())
    }

    fn checked(&self, name: &str, rows: &Tensor) -> Result<Vec<f32>> {
        let (n, _) = rows_and_channels("feature bank push", name, rows)?;
        expect_dims("feature bank push", name, rows, &[n, self.width])?;
        let rows = finite("feature bank push", name, rows)?;
        Ok(rows.into_iter().map(|value| value as f32).collect())
    }

    fn store(&mut self, rows: &[f32], seconds: Option<&[f32]>) {
        for (at, row) in rows.chunks_exact(self.width).enumerate() {
            let slot = self.next;
            put(&mut self.rows, slot, row);
            if let Some(seconds) = seconds {
                put(
                    &mut self.seconds,
                    slot,
                    &seconds[at * self.width..][..self.width],
                );
            }
            match self.inverse_norms.get_mut(slot) {
                Some(before) => *before = inverse_norm(row),
                None => self.inverse_norms.push(inverse_norm(row)),
            }
            self.next = (slot + 1) % self.capacity;
        }
        self.statistics.take();
    }

    /// Variance (C) of each channel over the bank: of the L2-normalised rows, or of the rows as they
    /// are if the bank was made without `normalise`.
    ///
    /// # Errors
    /// An empty bank.
    pub fn variance(&self) -> Result<Tensor> {
        vector(&self.statistics("variance")?.variance)
    }

    /// Standard deviation (C) of each channel of the un-normalised rows.
    ///
    /// # Errors
    /// An empty bank.
    pub fn std(&self) -> Result<Tensor> {
        vector(&self.statistics("std")?.std)
    }

    /// Mean (C) of the un-normalised rows.
    ///
    /// # Errors
    /// An empty bank.
    pub fn mean(&self) -> Result<Tensor> {
        vector(&self.statistics("mean")?.mean)
    }

    /// The fraction of channels that are zero in every row of the bank.
    ///
    /// # Errors
    /// An empty bank.
    pub fn dead(&self) -> Result<f64> {
        Ok(self.statistics("dead")?.dead)
    }

    /// Variance between images (C): the covariance, over images, of a channel in the first and in the
    /// second view, over the square of its mean (0 where the mean is 0). Free of the channel's scale
    /// and of noise that is not shared by the views; it may be slightly negative.
    ///
    /// # Errors
    /// A bank that is empty, or to which no pairs were pushed.
    pub fn between(&self) -> Result<Tensor> {
        if self.seconds.is_empty() {
            bail!("feature bank between: no pairs of views were pushed");
        }
        let n = self.len() as f64;
        let rows = || {
            self.rows
                .chunks_exact(self.width)
                .zip(self.seconds.chunks_exact(self.width))
        };
        let (mut first, mut second) = (vec![0.; self.width], vec![0.; self.width]);
        for (a, b) in rows() {
            for (sum, value) in first.iter_mut().zip(a).chain(second.iter_mut().zip(b)) {
                *sum += f64::from(*value) / n;
            }
        }
        let mut covariance = vec![0.; self.width];
        for (a, b) in rows() {
            for (c, sum) in covariance.iter_mut().enumerate() {
                *sum += (f64::from(a[c]) - first[c]) * (f64::from(b[c]) - second[c]) / n;
            }
        }
        for (c, value) in covariance.iter_mut().enumerate() {
            let mean = (first[c] + second[c]) / 2.;
            *value = if mean == 0. {
                0.
            } else {
                *value / (mean * mean)
            };
        }
        vector(&covariance)
    }

    /// What a checkpoint must hold: `features` (len, C) in slot order, `position` (1), and for a bank
    /// of pairs `second_features` (len, C). An empty bank has a `position` only.
    ///
    /// # Errors
    /// None in practice.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let position = Tensor::from_vec(vec![self.next as i64], 1, &Device::Cpu)?;
        let mut state = BTreeMap::from([("position".to_owned(), position)]);
        for (name, rows) in [("features", &self.rows), ("second_features", &self.seconds)] {
            if !rows.is_empty() {
                let rows = Tensor::from_slice(rows, (self.len(), self.width), &Device::Cpu)?;
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
        let len = rows.len() / self.width;
        if len > self.capacity {
            bail!(
                "{OP}: features has {len} rows, expected at most {}",
                self.capacity
            );
        }
        if !seconds.is_empty() && seconds.len() != rows.len() {
            let found = seconds.len() / self.width;
            bail!("{OP}: second_features has {found} rows, expected {len}");
        }
        // Until the ring is full, rows stand in order and the next slot is the first free one.
        let full = len == self.capacity;
        let next = match usize::try_from(position) {
            Ok(next) if full && next < self.capacity || !full && next == len => next,
            _ => bail!(
                "{OP}: position {position} does not fit {len} of {} rows",
                self.capacity
            ),
        };
        self.inverse_norms = rows.chunks_exact(self.width).map(inverse_norm).collect();
        (self.rows, self.seconds, self.next) = (rows, seconds, next);
        self.statistics.take();
        Ok(())
    }

    fn statistics(&self, what: &str) -> Result<&Statistics> {
        if self.is_empty() {
            bail!("feature bank {what}: the bank is empty");
        }
        Ok(self.statistics.get_or_init(|| self.compute()))
    }

    fn compute(&self) -> Statistics {
        let (n, width) = (self.len() as f64, self.width);
        let mut statistics = Statistics {
            variance: Vec::with_capacity(width),
            mean: Vec::with_capacity(width),
            std: Vec::with_capacity(width),
            dead: 0.,
        };
        for start in (0..width).step_by(BLOCK) {
            let channels = start..width.min(start + BLOCK);
            let raw = Moments::of(&self.rows, width, channels.clone(), |_| 1.);
            statistics.mean.extend(raw.mean(n));
            statistics.std.extend(raw.variance(n).map(f64::sqrt));
            statistics.dead += raw.zeros() as f64 / width as f64;
            if self.normalise {
                let unit =
                    Moments::of(&self.rows, width, channels, |slot| self.inverse_norms[slot]);
                statistics.variance.extend(unit.variance(n));
            } else {
                statistics.variance.extend(raw.variance(n));
            }
        }
        statistics
    }
}

fn put(rows: &mut Vec<f32>, slot: usize, row: &[f32]) {
    match rows.get_mut(slot * row.len()..(slot + 1) * row.len()) {
        Some(before) => before.copy_from_slice(row),
        None => rows.extend_from_slice(row),
    }
}

fn inverse_norm(row: &[f32]) -> f64 {
    let square: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
    if square > 0. {
        square.sqrt().recip()
    } else {
        0.
    }
}

fn vector(values: &[f64]) -> Result<Tensor> {
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    let width = values.len();
    Tensor::from_vec(values, width, &Device::Cpu)
}
