//! Bright values inverted.

use super::Planes;

/// Inverts the values at or above `threshold`.
pub fn solarise(planes: &mut Planes, threshold: f32) {
    for value in &mut planes.values {
        *value = if *value >= threshold {
            1. - *value
        } else {
            *value
        };
    }
}
