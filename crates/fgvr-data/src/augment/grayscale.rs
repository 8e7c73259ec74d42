//! Colour left out.

use super::Planes;

/// Luminance of a pixel, with torchvision's weights (which add up to 0.9999).
#[inline]
pub(super) fn luminance(red: f32, green: f32, blue: f32) -> f32 {
    0.2989 * red + 0.587 * green + 0.114 * blue
}

/// Sets all three channels to the luminance.
pub fn grayscale(planes: &mut Planes) {
    let [red, green, blue] = planes.channels_mut();
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let grey = luminance(*r, *g, *b);
        (*r, *g, *b) = (grey, grey, grey);
    }
}
