//! A map of places drawn over its image.

use candle_core::{Result, Tensor, bail};

use super::values;
use crate::ColourMap;
use crate::overlay::of_values;

/// The image (3, H, W), values in [0, 1], half covered by the colours of `map` (h, w), values >= 0.
///
/// The map is resized to (H, W) bilinearly (half-pixel centres, as PyTorch's `align_corners=False`)
/// and divided by its own maximum, so that zero stays zero and pictures of different images do not
/// share a scale; a map of zeros gets the colour of zero everywhere. Image values outside [0, 1] are
/// clamped. The result is f32, on the image's device. [`slices::overlay`](crate::slices::overlay) is the same on plain
/// values.
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
    let (pixels, map) = (values(image)?, values(map)?);
    let out = of_values(&pixels, (height, width), &map, (h, w), colours);
    Tensor::from_vec(out?, (3, height, width), image.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

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
