//! The types in which something is computed.

use std::ops::{Mul, Neg, Sub};

/// f32 and f64.
pub(crate) trait Real:
    Copy + PartialOrd + Default + Mul<Output = Self> + Neg<Output = Self> + Sub<Output = Self>
{
    /// Its value without the sign; NaN stays NaN.
    fn magnitude(self) -> Self;

    /// In 64 bits.
    fn wide(self) -> f64;

    /// Rounded to its own bits.
    fn of_wide(wide: f64) -> Self;

    /// Itself where it is above 0, and otherwise 0; NaN stays NaN.
    fn rectified(self) -> Self {
        // No comparison with NaN holds.
        if self <= Self::default() {
            Self::default()
        } else {
            self
        }
    }
}

impl Real for f32 {
    fn magnitude(self) -> Self {
        self.abs()
    }

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn of_wide(wide: f64) -> Self {
        wide as Self
    }
}

impl Real for f64 {
    fn magnitude(self) -> Self {
        self.abs()
    }

    fn wide(self) -> f64 {
        self
    }

    fn of_wide(wide: f64) -> Self {
        wide
    }
}
