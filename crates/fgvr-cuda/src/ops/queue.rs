//! A ring of past keys in a machine's memory, each with the image that it came from.
//!
//! Slots are filled in the order of fgvr-ssl's `KeyQueue`.
//!
//! # Differs
//! A key that is not finite is stored, since finding it would wait for the machine; see
//! [`all_finite`](super::finite::all_finite).

use super::columns::pack;
use super::rows::{THREADS, WARPS};
use crate::source::QUEUE;
use crate::{Argument, Array, DType, Error, Launch, Machine, Module, Real, Result};

const OP: &str = "key queue";
const MODULE: Module = Module {
    file: &QUEUE,
    real: Real::F32,
};

/// The last `capacity` keys, f32, and their images.
pub struct Queue {
    capacity: usize,
    width: usize,
    len: usize,
    next: usize,
    keys: Array,
    images: Array,
}

impl Queue {
    /// An empty queue of `capacity` keys of `width`.
    ///
    /// # Errors
    /// A capacity or width of zero; no memory left.
    pub fn new(machine: &dyn Machine, capacity: usize, width: usize) -> Result<Self> {
        if capacity == 0 || width == 0 {
            return Err(wrong(
                "capacity and width",
                "both above 0",
                format!("{capacity} and {width}"),
            ));
        }
        Ok(Self {
            capacity,
            width,
            len: 0,
            next: 0,
            keys: Array::new(machine, DType::F32, capacity * width)?,
            images: Array::new(machine, DType::U32, capacity)?,
        })
    }

    /// Most keys that it holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of keys, at most the capacity.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no key yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slot that the next key goes to.
    #[must_use]
    pub fn position(&self) -> usize {
        self.next
    }

    /// The keys held (len, width), in slot order. No copy: what is pushed later shows there.
    ///
    /// # Errors
    /// None in practice: the slots are there.
    pub fn keys(&self) -> Result<Array> {
        let memory = self.keys.memory().clone();
        Array::over(memory, DType::F32, self.len * self.width)
    }

    /// The image of each key held (len) of u32, as [`Queue::keys`].
    ///
    /// # Errors
    /// None in practice: the slots are there.
    pub fn images(&self) -> Result<Array> {
        Array::over(self.images.memory().clone(), DType::U32, self.len)
    }

    /// Stores `keys` (N, width) of `images` (N) of u32; the oldest make room. If there are more keys than slots, the last stay.
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says.
    pub fn push(&mut self, machine: &dyn Machine, keys: &Array, images: &Array) -> Result<()> {
        let count = images.len();
        images.expect(OP, "images", DType::U32, count)?;
        keys.expect(OP, "keys", DType::F32, count * self.width)?;
        if count == 0 {
            return Ok(());
        }
        let first = count.saturating_sub(self.capacity);
        let stored = count - first;
        let vector = self.width.is_multiple_of(pack(MODULE));
        machine.launch(&Launch {
            module: MODULE,
            kernel: if vector {
                "queue_push"
            } else {
                "queue_push_any"
            },
            grid: [stored.div_ceil(WARPS) as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            arguments: &[
                Argument::Array(keys),
                Argument::Array(images),
                Argument::Array(&self.keys),
                Argument::Array(&self.images),
                Argument::I64(stored as i64),
                Argument::I64(first as i64),
                Argument::I64(self.next as i64),
                Argument::I64(self.capacity as i64),
                Argument::I32(self.width as i32),
            ],
        })?;
        self.next = (self.next + count) % self.capacity;
        self.len = (self.len + count).min(self.capacity);
        Ok(())
    }

    /// Empties the queue and stores `keys` and `images` as a checkpoint has them: in slot order, with the
    /// slot that the next key goes to.
    ///
    /// # Errors
    /// Operands of other lengths or types; what the machine says; more keys than slots, a position that does not fit
    /// them; nothing is stored then.
    pub fn restore(
        &mut self,
        machine: &dyn Machine,
        keys: &Array,
        images: &Array,
        position: usize,
    ) -> Result<()> {
        let len = images.len();
        if len > self.capacity {
            let expected = format!("at most {}", self.capacity);
            return Err(wrong("images", &expected, len.to_string()));
        }
        // Until the ring is full, keys stand in order and the next slot is the first free one.
        let fits = match len == self.capacity {
            true => position < self.capacity,
            false => position == len,
        };
        if !fits {
            let expected = format!("one that fits {len} of {} keys", self.capacity);
            return Err(wrong("position", &expected, position.to_string()));
        }
        let before = (self.len, self.next);
        (self.len, self.next) = (0, 0);
        let pushed = self.push(machine, keys, images);
        match pushed {
            Ok(()) => self.next = position,
            Err(_) => (self.len, self.next) = before,
        }
        pushed
    }
}

fn wrong(what: &'static str, expected: &str, found: String) -> Error {
    Error::Shape {
        op: OP,
        what,
        expected: expected.into(),
        found,
    }
}
