//! Left and right exchanged.

use super::Planes;

/// Mirrors every row.
pub fn horizontal_flip(planes: &mut Planes) {
    if planes.width > 0 {
        let width = planes.width;
        planes
            .values
            .chunks_exact_mut(width)
            .for_each(<[f32]>::reverse);
    }
}
