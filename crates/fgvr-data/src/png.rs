//! Pictures out of tensors.

use std::io::Cursor;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use image::{ImageFormat, RgbImage};

use crate::{Error, atomic};

/// Pixels between the pictures of a [`grid`], and around it.
const GAP: usize = 2;

/// A PNG of `picture` (3, H, W), values in [0, 1]; values outside are cut off.
///
/// # Errors
/// [`Error::Tensor`]: another shape, no pixels, or a value that is not a number (which no picture
/// could show).
pub fn encode_png(picture: &Tensor) -> Result<Vec<u8>, Error> {
    let (width, height, pixels) = to_pixels(picture)?;
    let Some(picture) = RgbImage::from_raw(width, height, pixels) else {
        return Err(wrong(format!("{width} x {height} pixels do not fit a PNG")));
    };
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| wrong(e.to_string()))?;
    Ok(bytes.into_inner())
}

/// Writes [`encode_png`] of `picture` to `path`, replacing what is there.
///
/// # Errors
/// [`Error::Tensor`]: another shape, no pixels, or a value that is not a number (which no picture could show);
/// [`Error::Io`].
pub fn write_png(path: impl AsRef<Path>, picture: &Tensor) -> Result<(), Error> {
    atomic::write(path.as_ref(), &encode_png(picture)?)
}

/// A contact sheet (3, H', W') of `pictures` (3, H, W), row by row with `columns` in each, on white.
///
/// # Errors
/// [`Error::Tensor`]: no pictures, no columns, or pictures that are not all of one shape (3, H, W).
pub fn grid(pictures: &[Tensor], columns: usize) -> Result<Tensor, Error> {
    let Some(first) = pictures.first() else {
        return Err(wrong("grid: no pictures".to_owned()));
    };
    if columns == 0 {
        return Err(wrong("grid: 0 columns, expected at least one".to_owned()));
    }
    let (channels, height, width) = first.dims3()?;
    if let Some(other) = pictures
        .iter()
        .find(|p| p.dims() != first.dims() || channels != 3)
    {
        let expected = [3, height, width];
        return Err(wrong(format!(
            "grid: a picture is {:?}, expected {expected:?}",
            other.dims()
        )));
    }
    let columns = columns.min(pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let sheet_height = rows * (height + GAP) + GAP;
    let sheet_width = columns * (width + GAP) + GAP;
    let mut sheet = vec![1f32; 3 * sheet_height * sheet_width];
    for (i, picture) in pictures.iter().enumerate() {
        let top = GAP + i / columns * (height + GAP);
        let left = GAP + i % columns * (width + GAP);
        for (y, row) in values(picture)?.chunks_exact(width.max(1)).enumerate() {
            let (channel, y) = (y / height, y % height);
            let start = (channel * sheet_height + top + y) * sheet_width + left;
            sheet[start..start + width].copy_from_slice(row);
        }
    }
    Ok(Tensor::from_vec(
        sheet,
        (3, sheet_height, sheet_width),
        &Device::Cpu,
    )?)
}

/// (3, H, W) in [0, 1] -> width, height, and RGB bytes interleaved.
fn to_pixels(picture: &Tensor) -> Result<(u32, u32, Vec<u8>), Error> {
    let (channels, height, width) = picture.dims3()?;
    if channels != 3 || height * width == 0 {
        let found = picture.dims();
        return Err(wrong(format!(
            "png: picture is {found:?}, expected [3, H, W] with pixels"
        )));
    }
    let values = values(picture)?;
    let bad = values.iter().filter(|v| v.is_nan()).count();
    if bad > 0 {
        return Err(wrong(format!(
            "png: {bad} of {} values are not numbers",
            values.len()
        )));
    }
    let plane = height * width;
    let byte = |value: f32| (value.clamp(0., 1.) * 255.).round() as u8;
    let pixels = (0..3 * plane)
        .map(|i| byte(values[i % 3 * plane + i / 3]))
        .collect();
    let side = |length: usize| {
        u32::try_from(length).map_err(|_| wrong(format!("png: {length} pixels in a line")))
    };
    Ok((side(width)?, side(height)?, pixels))
}

fn values(picture: &Tensor) -> Result<Vec<f32>, Error> {
    let picture = picture.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Ok(picture.flatten_all()?.to_vec1()?)
}

fn wrong(message: String) -> Error {
    Error::Tensor(candle_core::Error::Msg(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    fn picture(value: f32, height: usize, width: usize) -> Tensor {
        Tensor::full(value, (3, height, width), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_png_reads_back_as_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let values: Vec<f32> = (0..3 * 4 * 5).map(|i| i as f32 / 50. - 0.05).collect();
        let tensor = Tensor::from_vec(values.clone(), (3, 4, 5), &Device::Cpu).unwrap();
        write_png(&path, &tensor).unwrap();
        let image = decode(&path, 20).unwrap();
        assert_eq!((image.width, image.height), (5, 4));
        for (i, byte) in image.pixels.iter().enumerate() {
            let expected = (values[i % 3 * 20 + i / 3].clamp(0., 1.) * 255.).round();
            assert_eq!(f32::from(*byte), expected);
        }
    }

    #[test]
    fn a_sheet_keeps_order_and_leaves_the_rest_white() {
        let pictures: Vec<Tensor> = (0..3).map(|i| picture(i as f32 / 10., 2, 3)).collect();
        let sheet = grid(&pictures, 2).unwrap();
        assert_eq!(sheet.dims(), [3, 2 * 4 + 2, 2 * 5 + 2]);
        let rows = sheet.get(1).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows[2], [1., 1., 0., 0., 0., 1., 1., 0.1, 0.1, 0.1, 1., 1.]);
        assert_eq!(rows[7], [1., 1., 0.2, 0.2, 0.2, 1., 1., 1., 1., 1., 1., 1.]);
        assert!(rows[4].iter().all(|&v| v == 1.));
    }

    #[test]
    fn what_no_picture_can_show_is_an_error() {
        let fails = |result: Result<Vec<u8>, Error>| result.unwrap_err().to_string();
        assert!(fails(encode_png(&picture(f32::NAN, 1, 2))).contains("6 of 6 values"));
        let grey = Tensor::zeros((1, 4, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(fails(encode_png(&grey)).contains("[1, 4, 4], expected [3, H, W]"));
        let sheet = |pictures: &[Tensor], columns| grid(pictures, columns).unwrap_err().to_string();
        assert!(sheet(&[], 2).contains("no pictures"));
        assert!(sheet(&[picture(0., 2, 2)], 0).contains("0 columns"));
        assert!(
            sheet(&[picture(0., 2, 2), picture(0., 2, 3)], 1)
                .contains("[3, 2, 3], expected [3, 2, 2]")
        );
    }
}
