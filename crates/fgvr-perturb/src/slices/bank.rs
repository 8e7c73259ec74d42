//! A ring of the last features, and what varies in it.

use std::sync::OnceLock;

use crate::Error;
use crate::moments::{BLOCK, Moments};
use crate::values::finite;

/// The last `capacity` feature vectors, un-normalised.
///
/// Statistics are computed in f64 from all stored rows in slot order when first asked for after a
/// push, in one pass over the bank, and kept until the next push. So they depend on the stored rows
/// and their slots only, and a bank that [`FeatureBank::restore`] restored gives the same bits as
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
    pub fn new(capacity: usize, width: usize, normalise: bool) -> Result<Self, Error> {
        if capacity == 0 || width == 0 {
            return Err(Error::Bank {
                op: "new",
                problem: format!("capacity {capacity} x width {width}, expected both above 0"),
            });
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

    /// Stores the rows of `pooled` (N, C); the oldest make room.
    ///
    /// # Errors
    /// Values that are no whole rows or not finite, or a bank of pairs; nothing is stored then.
    pub fn push(&mut self, pooled: &[f32]) -> Result<(), Error> {
        if !self.seconds.is_empty() {
            return Err(Error::Bank {
                op: "push",
                problem: "this bank holds pairs of views, use push_pair".to_owned(),
            });
        }
        self.check("pooled", pooled)?;
        self.store(pooled, None);
        Ok(())
    }

    /// Stores features of two views of the same images, (N, C) each, row by row.
    /// [`FeatureBank::between`] needs both; all other statistics are of `first`.
    ///
    /// # Errors
    /// Values that are no whole rows or not finite, or a bank of pairs; nothing is stored then; lengths that differ;
    /// a bank to which single rows were pushed.
    pub fn push_pair(&mut self, first: &[f32], second: &[f32]) -> Result<(), Error> {
        if self.seconds.is_empty() && !self.is_empty() {
            return Err(Error::Bank {
                op: "push_pair",
                problem: "this bank holds single views, use push".to_owned(),
            });
        }
        self.check("first", first)?;
        self.check("second", second)?;
        if first.len() != second.len() {
            return Err(Error::Length {
                op: "feature bank push_pair",
                name: "second",
                found: second.len(),
                expected: format!("{}, as first", first.len()),
            });
        }
        self.store(first, Some(second));
        Ok(())
    }

    /// An error unless `rows` are whole and finite, and there is one.
    fn check(&self, name: &'static str, rows: &[f32]) -> Result<(), Error> {
        const OP: &str = "feature bank push";
        if rows.is_empty() || !rows.len().is_multiple_of(self.width) {
            return Err(Error::Length {
                op: OP,
                name,
                found: rows.len(),
                expected: format!("a multiple of {} channels, above 0", self.width),
            });
        }
        finite(OP, name, rows, self.width, 1)
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
    pub fn variance(&self) -> Result<Vec<f32>, Error> {
        Ok(narrowed(&self.statistics("variance")?.variance))
    }

    /// Standard deviation (C) of each channel of the un-normalised rows.
    ///
    /// # Errors
    /// An empty bank.
    pub fn std(&self) -> Result<Vec<f32>, Error> {
        Ok(narrowed(&self.statistics("std")?.std))
    }

    /// Mean (C) of the un-normalised rows.
    ///
    /// # Errors
    /// An empty bank.
    pub fn mean(&self) -> Result<Vec<f32>, Error> {
        Ok(narrowed(&self.statistics("mean")?.mean))
    }

    /// The fraction of channels that are zero in every row of the bank.
    ///
    /// # Errors
    /// An empty bank.
    pub fn dead(&self) -> Result<f64, Error> {
        Ok(self.statistics("dead")?.dead)
    }

    /// Variance between images (C): the covariance, over images, of a channel in the first and in the
    /// second view, over the square of its mean (0 where the mean is 0). Free of the channel's scale
    /// and of noise that is not shared by the views; it may be slightly negative.
    ///
    /// # Errors
    /// A bank that is empty, or to which no pairs were pushed.
    pub fn between(&self) -> Result<Vec<f32>, Error> {
        if self.seconds.is_empty() {
            return Err(Error::Bank {
                op: "between",
                problem: "no pairs of views were pushed".to_owned(),
            });
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
        Ok(narrowed(&covariance))
    }

    /// The stored rows (len, C) in the order of their slots.
    #[must_use]
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// The second views of the same images (len, C); empty unless rows came as pairs.
    #[must_use]
    pub fn seconds(&self) -> &[f32] {
        &self.seconds
    }

    /// The slot that the next row goes to.
    #[must_use]
    pub fn position(&self) -> usize {
        self.next
    }

    /// Restores what [`FeatureBank::rows`], [`FeatureBank::seconds`] and [`FeatureBank::position`] returned, in a bank
    /// of the same capacity and width.
    ///
    /// # Errors
    /// Values that are no whole rows, or not finite, more rows than the capacity, a position that does not fit them;
    /// nothing is changed then.
    pub fn restore(
        &mut self,
        rows: Vec<f32>,
        seconds: Vec<f32>,
        position: usize,
    ) -> Result<(), Error> {
        const OP: &str = "restore";
        let problem = |problem: String| Err(Error::Bank { op: OP, problem });
        for (name, values) in [("features", &rows), ("second_features", &seconds)] {
            if !values.is_empty() {
                self.check(name, values)?;
            }
        }
        let len = rows.len() / self.width;
        if len > self.capacity {
            let most = self.capacity;
            return problem(format!("features has {len} rows, expected at most {most}"));
        }
        if !seconds.is_empty() && seconds.len() != rows.len() {
            let found = seconds.len() / self.width;
            return problem(format!("second_features has {found} rows, expected {len}"));
        }
        // Until the ring is full, rows stand in order and the next slot is the first free one.
        let full = len == self.capacity;
        if !(full && position < self.capacity || !full && position == len) {
            let of = self.capacity;
            return problem(format!(
                "position {position} does not fit {len} of {of} rows"
            ));
        }
        self.inverse_norms = rows.chunks_exact(self.width).map(inverse_norm).collect();
        (self.rows, self.seconds, self.next) = (rows, seconds, position);
        self.statistics.take();
        Ok(())
    }

    fn statistics(&self, op: &'static str) -> Result<&Statistics, Error> {
        if self.is_empty() {
            return Err(Error::Bank {
                op,
                problem: "the bank is empty".to_owned(),
            });
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

fn narrowed(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
