//! A map of places drawn over its image.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::ColourMap;

/// Share of the colour in the blend; the rest is the image.
const OPACITY: f32 = 0.5;

/// The image (3, H, W), values in [0, 1], half covered by the colours of `map` (h, w), values >= 0.
///
/// The map is resized to (H, W) bilinearly (half-pixel centres, as PyTorch's `align_corners=False`)
/// and divided by its own maximum, so that zero stays zero and pictures of different images do not
/// share a scale; a map of zeros gets the colour of zero everywhere. Image values outside [0, 1] are
/// clamped. The result is f32, on the image's device.
///
/// # Errors
/// Other shapes, empty ones, and map values that are negative or not finite.
pub fn overlay(image: &Tensor, map: &Tensor, colours: ColourMap) -> Result<Tensor> {
    let (height, width) = match *image.dims() {
        [3, height, width] if height * width > 0 => (height, width),
        _ => bail!("overlay: image is {:?}, expected (3, H, W)", image.dims()),
    };
    let (h, w) = match *map.dims() {
        [h, w] if h * w > 0 => (h, w),
        _ => bail!("overlay: map is {:?}, expected (h, w)", map.dims()),
    };
    let pixels = values(image)?;
    let mut map = values(map)?;
    if let Some(at) = map.iter().position(|v| !v.is_finite() || *v < 0.) {
        let (row, column) = (at / w, at % w);
        bail!(
            "overlay: map value {} at ({row}, {column}), expected a finite value >= 0",
            map[at]
        );
    }
    map = resize(&map, (h, w), (height, width));
    let top = map.iter().copied().fold(0., f32::max);
    let scale = if top > 0. { 1. / top } else { 0. };
    let places = height * width;
    let mut out = vec![0.; 3 * places];
    for (place, value) in map.iter().enumerate() {
        for (channel, colour) in colours.rgb(value * scale).into_iter().enumerate() {
            let at = channel * places + place;
            out[at] = (1. - OPACITY) * pixels[at].clamp(0., 1.) + OPACITY * colour;
        }
    }
    Tensor::from_vec(out, (3, height, width), image.device())
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor
        .to_dtype(DType::F32)?
        .to_device(&Device::Cpu)?
        .flatten_all()?
        .to_vec1()
}

/// Bilinear resize of `map` (h, w) to (H, W), half-pixel centres.
fn resize(map: &[f32], (h, w): (usize, usize), (height, width): (usize, usize)) -> Vec<f32> {
    let rows = taps(h, height);
    let columns = taps(w, width);
    let mut out = Vec::with_capacity(height * width);
    for &(top, bottom, down) in &rows {
        for &(left, right, along) in &columns {
            let row = |y: usize| {
                let (a, b) = (map[y * w + left], map[y * w + right]);
                a + along * (b - a)
            };
            let (a, b) = (row(top), row(bottom));
            out.push(a + down * (b - a));
        }
    }
    out
}

/// For each of `to` places, its two neighbours among `from` and the share of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let ratio = from as f64 / to as f64;
    (0..to)
        .map(|at| {
            let centre = ((at as f64 + 0.5) * ratio - 0.5).max(0.);
            let low = (centre as usize).min(from - 1);
            (low, (low + 1).min(from - 1), (centre - low as f64) as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_black_image_shows_the_map_divided_by_its_maximum() {
        let image = Tensor::zeros((3, 2, 2), DType::F32, &Device::Cpu).unwrap();
        let map = Tensor::new(&[[0f32, 1.], [2., 4.]], &Device::Cpu).unwrap();
        let out = overlay(&image, &map, ColourMap::Gray).unwrap();
        let expected = [[0., 0.125], [0.25, 0.5]];
        assert_eq!(out.to_vec3::<f32>().unwrap(), [expected; 3]);
    }

    #[test]
    fn a_map_of_zeros_and_a_map_of_one_place_have_one_colour() {
        let image = Tensor::ones((3, 3, 2), DType::F32, &Device::Cpu).unwrap();
        for (value, colour) in [(0f32, 0.5), (7., 1.)] {
            let map = Tensor::new(&[[value]], &Device::Cpu).unwrap();
            let out = overlay(&image, &map, ColourMap::Gray).unwrap();
            assert_eq!(
                out.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                [colour; 18]
            );
        }
    }

    #[test]
    fn bad_shapes_and_values_are_named() {
        let image = Tensor::zeros((3, 2, 2), DType::F32, &Device::Cpu).unwrap();
        let text = |image: &Tensor, map: &Tensor| {
            overlay(image, map, ColourMap::Viridis)
                .unwrap_err()
                .to_string()
        };
        let map = Tensor::new(&[[0f32, -1.]], &Device::Cpu).unwrap();
        assert!(text(&image, &map).contains("map value -1 at (0, 1)"));
        let map = Tensor::new(&[[f32::NAN]], &Device::Cpu).unwrap();
        assert!(text(&image, &map).contains("map value NaN at (0, 0)"));
        assert!(text(&image, &image).contains("map is [3, 2, 2], expected (h, w)"));
        assert!(text(&map, &map).contains("image is [1, 1], expected (3, H, W)"));
    }
}
