//! The same on plain values, for features that are no candle tensors: of burn, tch, ndarray, or read from a file.
//!
//! Values stand row by row, the last dimension first to change, as `Tensor::flatten_all`, ndarray's standard layout and
//! NumPy's default order have them. The functions on tensors compute with these.
//!
//! ```
//! use fgvr_gradcam::{Importance, Sign, slices};
//!
//! // A map (N, C, h, w) = (1, 2, 1, 2) and the gradient of a loss at it.
//! let (map, grad) = ([1., 2., 3., 0.], [1., 3., -1., -1.]);
//! let cam = slices::grad_cam(&map, &grad, [1, 2, 1, 2], Sign::RaisesLoss)?;
//! assert_eq!(cam, [0., 4.]);
//!
//! // Pooled features (N, C) = (1, 2), and the gradient there.
//! let found = slices::importance(&[1.5, 1.5], &[2., -1.], 2, Importance::Gradient, None)?;
//! assert_eq!(found, [2., 1.]);
//! # Ok::<(), fgvr_gradcam::Error>(())
//! ```

use crate::error::expect;
use crate::{ColourMap, Error, Importance, Sign};

/// Importance (N, C), all values >= 0, of `pooled` (N, C) for a loss whose gradient there is `grad` (N, C), with C
/// `channels`; see [`Importance`].
///
/// `mean` (C) is the mean feature over a bank; [`Importance::Centred`] needs it, the others ignore it.
///
/// # Errors
/// Lengths that do not fit, no channels, and [`Importance::Centred`] without a mean.
pub fn importance(
    pooled: &[f32],
    grad: &[f32],
    channels: usize,
    kind: Importance,
    mean: Option<&[f32]>,
) -> Result<Vec<f32>, Error> {
    const OP: &str = "importance";
    if channels == 0 || !pooled.len().is_multiple_of(channels) {
        return Err(Error::Length {
            op: OP,
            name: "pooled",
            found: pooled.len(),
            expected: format!("N rows of {channels} channels, at least one of them"),
        });
    }
    let rows = || format!("as pooled, rows of {channels} channels");
    expect(OP, "grad", grad.len(), pooled.len(), rows)?;
    if let (Importance::Centred, Some(mean)) = (kind, mean) {
        expect(OP, "mean", mean.len(), channels, || "channels".to_owned())?;
    }
    crate::importance::of_values(pooled, grad, kind, mean)
}

/// Grad-CAM (N, h, w), all values >= 0, of a feature map (N, C, h, w) and the gradient of a scalar at it, (N, C, h, w);
/// see the function of the crate's root of that name.
///
/// # Errors
/// Lengths that are not N * C * h * w, and a dimension of zero.
pub fn grad_cam(
    map: &[f32],
    grad: &[f32],
    shape: [usize; 4],
    sign: Sign,
) -> Result<Vec<f32>, Error> {
    const OP: &str = "grad_cam";
    let count = count(OP, "map", &shape)?;
    let in_words = || format!("{shape:?}");
    expect(OP, "map", map.len(), count, in_words)?;
    expect(OP, "grad", grad.len(), count, in_words)?;
    crate::grad_cam::of_values(map, grad, shape, sign)
}

/// The image (3, H, W), values in [0, 1], half covered by the colours of `map` (h, w), values >= 0; see
/// [`overlay`](crate::overlay()). `size` is (H, W), `map_size` (h, w).
///
/// # Errors
/// Lengths that do not fit, a dimension of zero, and map values that are negative or not finite.
pub fn overlay(
    image: &[f32],
    size: (usize, usize),
    map: &[f32],
    map_size: (usize, usize),
    colours: ColourMap,
) -> Result<Vec<f32>, Error> {
    const OP: &str = "overlay";
    let (image_shape, map_shape) = ([3, size.0, size.1], [map_size.0, map_size.1]);
    let pixels = count(OP, "image", &image_shape)?;
    expect(OP, "image", image.len(), pixels, || {
        format!("{image_shape:?}")
    })?;
    let places = count(OP, "map", &map_shape)?;
    expect(OP, "map", map.len(), places, || format!("{map_shape:?}"))?;
    crate::overlay::of_values(image, size, map, map_size, colours)
}

/// The number of values of a shape.
fn count(op: &'static str, name: &'static str, shape: &[usize]) -> Result<usize, Error> {
    let count = shape
        .iter()
        .try_fold(1usize, |count, side| count.checked_mul(*side));
    match count {
        Some(0) => Err(Error::Empty {
            op,
            name,
            shape: shape.to_vec(),
        }),
        // No slice is so long.
        None => Ok(usize::MAX),
        Some(count) => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_do_not_fit_are_named() {
        let text = |channels| importance(&[1.; 6], &[1.; 4], channels, Importance::Gradient, None);
        assert_eq!(
            text(3).unwrap_err().to_string(),
            "importance: grad has 4 values, expected 6 = as pooled, rows of 3 channels"
        );
        for channels in [0, 4] {
            assert!(matches!(
                text(channels),
                Err(Error::Length { name: "pooled", .. })
            ));
        }
        let centred = |mean| importance(&[1.; 4], &[1.; 4], 2, Importance::Centred, mean);
        assert_eq!(centred(None), Err(Error::Mean));
        assert!(matches!(
            centred(Some(&[1.; 3])),
            Err(Error::Length { name: "mean", .. })
        ));

        let cam = |shape| grad_cam(&[1.; 8], &[1.; 8], shape, Sign::RaisesLoss);
        assert_eq!(
            cam([1, 2, 2, 3]).unwrap_err().to_string(),
            "grad_cam: map has 8 values, expected 12 = [1, 2, 2, 3]"
        );
        assert!(matches!(cam([0, 2, 2, 2]), Err(Error::Empty { .. })));
        assert!(cam([usize::MAX, 2, 2, 2]).is_err());

        let drawn = |map: &[f32]| overlay(&[0.; 12], (2, 2), map, (1, 2), ColourMap::Gray);
        assert_eq!(
            drawn(&[1., -1.]).unwrap_err().to_string(),
            "overlay: map value -1 at (0, 1), expected a finite value >= 0"
        );
        assert!(matches!(
            drawn(&[1.]),
            Err(Error::Length { name: "map", .. })
        ));
    }
}
