//! Mean and variance of a block of channels, in one pass over the rows.

/// Channels handled together, so that their sums stay in the first-level cache.
pub(crate) const BLOCK: usize = 256;

/// Sums over rows of the difference to the first row, and of its square: the shift keeps a small
/// variance about a large mean from cancelling.
pub(crate) struct Moments {
    shift: [f64; BLOCK],
    sum: [f64; BLOCK],
    square: [f64; BLOCK],
    channels: usize,
}

impl Moments {
    pub(crate) fn of(
        rows: &[f32],
        width: usize,
        channels: std::ops::Range<usize>,
        scale: impl Fn(usize) -> f64,
    ) -> Self {
        let mut moments = Self {
            shift: [0.; BLOCK],
            sum: [0.; BLOCK],
            square: [0.; BLOCK],
            channels: channels.len(),
        };
        for (slot, row) in rows.chunks_exact(width).enumerate() {
            let (row, scale) = (&row[channels.clone()], scale(slot));
            if slot == 0 {
                for (shift, value) in moments.shift.iter_mut().zip(row) {
                    *shift = scale * f64::from(*value);
                }
            }
            for (c, value) in row.iter().enumerate() {
                let off = scale * f64::from(*value) - moments.shift[c];
                moments.sum[c] += off;
                moments.square[c] += off * off;
            }
        }
        moments
    }

    pub(crate) fn mean(&self, n: f64) -> impl Iterator<Item = f64> {
        (0..self.channels).map(move |c| self.shift[c] + self.sum[c] / n)
    }

    pub(crate) fn variance(&self, n: f64) -> impl Iterator<Item = f64> {
        (0..self.channels).map(move |c| {
            let mean = self.sum[c] / n;
            (self.square[c] / n - mean * mean).max(0.)
        })
    }

    /// Channels that are zero in every row.
    pub(crate) fn zeros(&self) -> usize {
        let zero = |c: &usize| self.shift[*c] == 0. && self.square[*c] == 0.;
        (0..self.channels).filter(zero).count()
    }
}
