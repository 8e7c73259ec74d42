//! A ring of the last features in a machine's memory, and what varies in it.
//!
//! The numbers are those of fgvr-perturb's `FeatureBank`: of all stored rows in slot order, in f64, divided by
//! the number of rows.
//!
//! # Differs
//! A value that is not finite is stored, since finding it would wait for the machine: it makes the
//! statistics of its channel no numbers, and with norms those of all channels.

use crate::source::BANK;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

const THREADS: u32 = 256;
/// Channels of a block.
const TILE: usize = 32;
/// Rows of a slab, at least: 4 for each thread.
const ROWS: usize = 32;
/// Slabs, at most: what one thread adds up at the end.
const SLABS: usize = 64;
const MODULE: Module = Module {
    file: &BANK,
    real: Real::F32,
};

/// The last `capacity` feature vectors, un-normalised, f32.
pub struct Bank {
    capacity: usize,
    channels: usize,
    len: usize,
    next: usize,
    rows: Array,
    /// Second views of the same images, slot by slot.
    seconds: Option<Array>,
    /// 1 / |row| by slot, f64.
    inverse_norms: Array,
}

/// What varies in a bank: arrays of f32 (channels).
pub struct Statistics {
    /// Mean of the un-normalised rows.
    pub mean: Array,
    /// Standard deviation of the un-normalised rows.
    pub deviation: Array,
    /// Variance: of the L2-normalised rows, or of the rows as they are.
    pub variance: Array,
    /// 1 where a channel is zero in every row, 0 elsewhere.
    pub dead: Array,
}

impl Bank {
    /// An empty bank of `capacity` rows of `channels`; with `pairs`, of two views of each image.
    ///
    /// # Errors
    /// A capacity of zero or no channels; no memory left.
    pub fn new(
        machine: &dyn Machine,
        capacity: usize,
        channels: usize,
        pairs: bool,
    ) -> Result<Self> {
        if capacity == 0 || channels == 0 {
            return Err(wrong(
                "capacity and channels",
                "both above 0",
                format!("{capacity} and {channels}"),
            ));
        }
        let rows = || Array::new(machine, DType::F32, capacity * channels);
        Ok(Self {
            capacity,
            channels,
            len: 0,
            next: 0,
            rows: rows()?,
            seconds: if pairs { Some(rows()?) } else { None },
            inverse_norms: Array::new(machine, DType::F64, capacity)?,
        })
    }

    /// Number of stored rows, at most the capacity.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been stored yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot that the next row goes to.
    #[must_use]
    pub fn position(&self) -> usize {
        self.next
    }

    /// The stored rows (capacity, channels) in slot order; those from [`Bank::len`] on hold nothing.
    #[must_use]
    pub fn rows(&self) -> &Array {
        &self.rows
    }

    /// The second views, as [`Bank::rows`], of a bank of pairs.
    #[must_use]
    pub fn seconds(&self) -> Option<&Array> {
        self.seconds.as_ref()
    }

    /// Stores `rows` (N, channels), and for a bank of pairs the second views of the same images; the oldest
    /// make room.
    ///
    /// # Errors
    /// Operands of other lengths or types, second views that are missing or that the bank does not hold;
    /// what the machine says.
    pub fn push(
        &mut self,
        machine: &dyn Machine,
        rows: &Array,
        seconds: Option<&Array>,
    ) -> Result<()> {
        let count = rows.len() / self.channels;
        rows.expect(OP, "rows", DType::F32, count * self.channels)?;
        match (seconds, &self.seconds) {
            (None, None) => {}
            (Some(given), Some(_)) => given.expect(OP, "second views", DType::F32, rows.len())?,
            (given, held) => {
                let name = |there: bool| if there { "some" } else { "none" };
                return Err(wrong(
                    "second views",
                    name(held.is_some()),
                    name(given.is_some()).into(),
                ));
            }
        }
        let stores = [
            (Some(rows), Some(&self.rows), Some(&self.inverse_norms)),
            (seconds, self.seconds.as_ref(), None),
        ];
        for (from, to, norms) in stores {
            if let (Some(from), Some(to)) = (from, to) {
                self.store(machine, from, to, norms, count)?;
            }
        }
        self.next = (self.next + count) % self.capacity;
        self.len = (self.len + count).min(self.capacity);
        Ok(())
    }

    fn store(
        &self,
        machine: &dyn Machine,
        from: &Array,
        to: &Array,
        norms: Option<&Array>,
        count: usize,
    ) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        // Of more rows than slots only the last stay.
        let first = count.saturating_sub(self.capacity);
        machine.launch(&Launch {
            module: MODULE,
            kernel: "bank_push",
            grid: [(count - first) as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            arguments: &[
                Argument::Array(from),
                Argument::Array(to),
                Argument::optional(norms),
                Argument::I64(first as i64),
                Argument::I64(self.next as i64),
                Argument::I64(self.capacity as i64),
                Argument::I32(self.channels as i32),
            ],
        })
    }

    /// Empties the bank and stores `rows` (len, channels) as a checkpoint has them: in slot order, with the
    /// slot that the next row goes to.
    ///
    /// # Errors
    /// Operands of other lengths or types, second views that are missing or that the bank does not hold; what the
    /// machine says; more rows than slots, a position that does not fit them; nothing is stored then.
    pub fn restore(
        &mut self,
        machine: &dyn Machine,
        rows: &Array,
        seconds: Option<&Array>,
        position: usize,
    ) -> Result<()> {
        let len = rows.len() / self.channels;
        if len > self.capacity {
            return Err(wrong(
                "rows",
                &format!("at most {}", self.capacity),
                len.to_string(),
            ));
        }
        // Until the ring is full, rows stand in order and the next slot is the first free one.
        let fits = match len == self.capacity {
            true => position < self.capacity,
            false => position == len,
        };
        if !fits {
            let expected = format!("one that fits {len} of {} rows", self.capacity);
            return Err(wrong("position", &expected, position.to_string()));
        }
        let before = (self.len, self.next);
        (self.len, self.next) = (0, 0);
        let pushed = self.push(machine, rows, seconds);
        match pushed {
            Ok(()) => self.next = position,
            Err(_) => (self.len, self.next) = before,
        }
        pushed
    }

    /// What varies; `normalise` makes the variance that of the L2-normalised rows.
    ///
    /// # Errors
    /// An empty bank; what the machine says.
    pub fn statistics(&self, machine: &dyn Machine, normalise: bool) -> Result<Statistics> {
        let [slab, slabs] = self.slabs()?;
        let norms = normalise.then_some(&self.inverse_norms);
        let sums = if normalise { 4 } else { 2 };
        let partial = Array::new(machine, DType::F64, sums * slabs * self.channels)?;
        let arguments = [
            Argument::Array(&self.rows),
            Argument::optional(norms),
            Argument::Array(&partial),
            Argument::I32(self.len as i32),
            Argument::I32(slab as i32),
            Argument::I32(self.channels as i32),
        ];
        let grid = [self.channels.div_ceil(TILE) as u32, slabs as u32, 1];
        launch(machine, "bank_moments", grid, &arguments)?;
        let array = || Array::new(machine, DType::F32, self.channels);
        let made = Statistics {
            mean: array()?,
            deviation: array()?,
            variance: array()?,
            dead: array()?,
        };
        let arguments = [
            Argument::Array(&partial),
            Argument::Array(&self.rows),
            Argument::Array(&made.mean),
            Argument::Array(&made.deviation),
            Argument::Array(&made.variance),
            Argument::Array(&made.dead),
            Argument::I32(self.len as i32),
            Argument::I32(slabs as i32),
            Argument::I32(self.channels as i32),
            Argument::I32(i32::from(normalise)),
        ];
        launch(
            machine,
            "bank_statistics",
            self.grid_of_channels(),
            &arguments,
        )?;
        Ok(made)
    }

    /// Variance between images (channels): the covariance, over images, of a channel in the first and in the
    /// second view, over the square of its mean (0 where the mean is 0).
    ///
    /// # Errors
    /// A bank that is empty or not of pairs; what the machine says.
    pub fn between(&self, machine: &dyn Machine) -> Result<Array> {
        let Some(seconds) = &self.seconds else {
            return Err(wrong("second views", "some", "none".into()));
        };
        let [slab, slabs] = self.slabs()?;
        let partial = Array::new(machine, DType::F64, 3 * slabs * self.channels)?;
        let (rows, seconds) = (Argument::Array(&self.rows), Argument::Array(seconds));
        let arguments = [
            rows,
            seconds,
            Argument::Array(&partial),
            Argument::I32(self.len as i32),
            Argument::I32(slab as i32),
            Argument::I32(self.channels as i32),
        ];
        let grid = [self.channels.div_ceil(TILE) as u32, slabs as u32, 1];
        launch(machine, "bank_products", grid, &arguments)?;
        let made = Array::new(machine, DType::F32, self.channels)?;
        let arguments = [
            Argument::Array(&partial),
            rows,
            seconds,
            Argument::Array(&made),
            Argument::I32(self.len as i32),
            Argument::I32(slabs as i32),
            Argument::I32(self.channels as i32),
        ];
        launch(machine, "bank_between", self.grid_of_channels(), &arguments)?;
        Ok(made)
    }

    /// Rows of a slab, and the number of slabs.
    fn slabs(&self) -> Result<[usize; 2]> {
        if self.len == 0 {
            return Err(wrong("rows", "at least one", "none".into()));
        }
        let slab = self.len.div_ceil(SLABS).max(ROWS);
        Ok([slab, self.len.div_ceil(slab)])
    }

    fn grid_of_channels(&self) -> [u32; 3] {
        [self.channels.div_ceil(THREADS as usize) as u32, 1, 1]
    }
}

const OP: &str = "feature bank";

fn wrong(what: &'static str, expected: &str, found: String) -> Error {
    Error::Shape {
        op: OP,
        what,
        expected: expected.into(),
        found,
    }
}

fn launch(
    machine: &dyn Machine,
    kernel: &'static str,
    grid: [u32; 3],
    arguments: &[Argument<'_>],
) -> Result<()> {
    machine.launch(&Launch {
        module: MODULE,
        kernel,
        grid,
        block: [THREADS, 1, 1],
        shared: 0,
        arguments,
    })
}
