//! Mean and scatter of a stream of rows.

use candle_core::Result;

use super::symmetric_sum::{BLOCK, SymmetricSum};

/// Count, mean (C) and the sum over rows of (f - mean)^T (f - mean), by blocks of [`BLOCK`] rows.
///
/// A block is centred by its own mean before its products are made, and joined to what came before by the
/// formula of Chan, Golub and LeVeque (1979): a mean far from 0 costs no digits.
#[derive(Clone, Debug)]
pub(super) struct Scatter {
    count: usize,
    mean: Vec<f64>,
    sum: SymmetricSum,
    pending: Vec<f32>,
}

impl Scatter {
    pub(super) fn new(width: usize) -> Self {
        Self {
            count: 0,
            mean: vec![0.; width],
            sum: SymmetricSum::new(width),
            pending: Vec::new(),
        }
    }

    /// Of what [`sum`](Self::sum), [`mean`](Self::mean), [`pending`](Self::pending) and
    /// [`whole_blocks`](Self::whole_blocks) gave.
    pub(super) fn of(count: usize, mean: Vec<f64>, sum: SymmetricSum, pending: Vec<f32>) -> Self {
        Self {
            count,
            mean,
            sum,
            pending,
        }
    }

    /// Rows that are in the sum.
    pub(super) fn whole_blocks(&self) -> usize {
        self.count
    }

    /// The sum over the rows that are in it.
    pub(super) fn sum(&self) -> &SymmetricSum {
        &self.sum
    }

    /// Rows that wait for their block to fill.
    pub(super) fn pending(&self) -> &[f32] {
        &self.pending
    }

    pub(super) fn count(&self) -> usize {
        self.count + self.pending.len() / self.mean.len()
    }

    /// Adds `rows` (n, C).
    pub(super) fn push(&mut self, mut rows: &[f32]) -> Result<()> {
        let full = BLOCK * self.mean.len();
        while !rows.is_empty() {
            let (now, later) = rows.split_at(rows.len().min(full - self.pending.len()));
            self.pending.extend_from_slice(now);
            rows = later;
            if self.pending.len() == full {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Adds all rows of another part, of the same width.
    pub(super) fn merge(&mut self, mut other: Self) -> Result<()> {
        self.flush()?;
        other.flush()?;
        if other.count > 0 {
            let between = self.join(other.count, &other.mean);
            self.sum.merge(&other.sum);
            self.sum.add(&between)?;
        }
        Ok(())
    }

    /// The same with no row pending.
    pub(super) fn whole(&self) -> Result<Self> {
        let mut whole = self.clone();
        whole.flush()?;
        Ok(whole)
    }

    /// The mean (C) of the rows that are in the sum: μ where nothing is pending.
    pub(super) fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The scatter (C, C) over `divisor`, where nothing is pending.
    pub(super) fn dense(&self, divisor: f64) -> Vec<f64> {
        self.sum.dense(1. / divisor)
    }

    fn flush(&mut self) -> Result<()> {
        let width = self.mean.len();
        let n = self.pending.len() / width;
        if n == 0 {
            return Ok(());
        }
        let mut mean = vec![0.; width];
        for row in self.pending.chunks_exact(width) {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= n as f64);
        let mut rows: Vec<f64> = Vec::with_capacity((n + 1) * width);
        for row in self.pending.chunks_exact(width) {
            rows.extend(row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m));
        }
        rows.extend(self.join(n, &mean));
        self.pending.clear();
        self.sum.add(&rows)
    }

    /// Takes `n` rows of the given mean into count and mean. Returns the row whose outer product is what the
    /// distance between the two means adds to the scatter.
    fn join(&mut self, n: usize, mean: &[f64]) -> Vec<f64> {
        let (before, n) = (self.count as f64, n as f64);
        let weight = (before * n / (before + n)).sqrt();
        let between = mean.iter().zip(&self.mean).map(|(b, a)| weight * (b - a));
        let between = between.collect();
        for (a, b) in self.mean.iter_mut().zip(mean) {
            *a += (b - *a) * (n / (before + n));
        }
        self.count += n as usize;
        between
    }
}
