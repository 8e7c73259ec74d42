//! How much of a machine's memory is held, and was at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Held now.
    pub held: usize,
    /// Held at most since the start or the last [`Machine::reset_peak`](crate::Machine::reset_peak).
    pub peak: usize,
    /// Taken from the machine at most since the start, with what a pool keeps of what was freed.
    pub reserved: usize,
    /// What the machine has.
    pub total: usize,
}

/// Counts what is held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    held: AtomicUsize,
    peak: AtomicUsize,
    highest: AtomicUsize,
}

/// Bytes that count as held until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    meter: Meter,
    bytes: usize,
}

impl Meter {
    pub(crate) fn take(&self, bytes: usize) -> Share {
        let held = self.0.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.0.peak.fetch_max(held, Ordering::Relaxed);
        self.0.highest.fetch_max(held, Ordering::Relaxed);
        Share {
            meter: self.clone(),
            bytes,
        }
    }

    /// As if nothing were kept of what was freed.
    pub(crate) fn read(&self, total: usize) -> MemoryUse {
        MemoryUse {
            held: self.0.held.load(Ordering::Relaxed),
            peak: self.0.peak.load(Ordering::Relaxed),
            reserved: self.0.highest.load(Ordering::Relaxed),
            total,
        }
    }

    /// Whether both count for one machine.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn reset_peak(&self) {
        let held = self.0.held.load(Ordering::Relaxed);
        self.0.peak.store(held, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.meter.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stays_when_what_was_held_goes() {
        let meter = Meter::default();
        let first = meter.take(100);
        drop(meter.take(50));
        let seen = meter.read(1000);
        assert_eq!((seen.held, seen.peak, seen.total), (100, 150, 1000));
        assert_eq!(seen.reserved, 150);
        drop(first);
        meter.reset_peak();
        assert_eq!((meter.read(1000).peak, meter.read(1000).reserved), (0, 150));
    }
}
