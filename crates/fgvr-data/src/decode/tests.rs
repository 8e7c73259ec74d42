use super::*;
use image::codecs::jpeg::JpegEncoder;
use image::{
    ExtendedColorType, GrayImage, ImageBuffer, ImageEncoder, ImageFormat, Luma, Rgb, RgbImage,
    Rgba, RgbaImage,
};

fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([
            (x * 5 % 256) as u8,
            (y * 7 % 256) as u8,
            (x * y % 256) as u8,
        ])
    })
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn read(bytes: &[u8]) -> Result<Image, Error> {
    decode_bytes(bytes, Path::new("photo"), 1 << 20)
}

/// A minimal Exif block that says nothing but the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut block = b"MM\0\x2a\0\0\0\x08\0\x01".to_vec();
    block.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    block.extend([0; 4]);
    block
}

#[test]
fn each_format_is_told_by_its_content() {
    let picture = photo(12, 9);
    let dynamic = DynamicImage::from(picture.clone());
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
        let image = read(&encoded(&dynamic, format)).unwrap();
        assert_eq!((image.width, image.height), (12, 9), "{format:?}");
        assert_eq!(&image.pixels, picture.as_raw(), "{format:?}");
    }
    let image = read(&encoded(&dynamic, ImageFormat::Jpeg)).unwrap();
    assert_eq!(
        (image.width, image.height, image.pixels.len()),
        (12, 9, 324)
    );
}

#[test]
fn the_orientation_of_the_camera_is_applied() {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
    encoder.set_exif_metadata(exif(6)).unwrap();
    // Left half white: turned clockwise by 90 degrees, the upper half is.
    let picture = RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 255 } else { 0 }; 3]));
    encoder
        .write_image(&picture, 16, 8, ExtendedColorType::Rgb8)
        .unwrap();
    let image = read(&bytes).unwrap();
    assert_eq!((image.width, image.height), (8, 16));
    let (upper, lower) = image.pixels.split_at(3 * 8 * 8);
    assert!(upper.iter().all(|&p| p > 200) && lower.iter().all(|&p| p < 50));
}

#[test]
fn greys_alpha_and_sixteen_bits_become_rgb() {
    let grey = DynamicImage::from(GrayImage::from_pixel(3, 2, Luma([77])));
    assert_eq!(
        read(&encoded(&grey, ImageFormat::Png)).unwrap().pixels,
        [77; 18]
    );
    let clear = DynamicImage::from(RgbaImage::from_pixel(3, 2, Rgba([9, 9, 9, 0])));
    assert_eq!(
        read(&encoded(&clear, ImageFormat::Png)).unwrap().pixels,
        [9; 18]
    );
    let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(3, 2, Luma([0x8080]));
    let deep = DynamicImage::from(deep);
    assert_eq!(
        read(&encoded(&deep, ImageFormat::Png)).unwrap().pixels,
        [0x80; 18]
    );
}

#[test]
fn a_small_file_that_claims_a_huge_picture_is_refused() {
    let mut bytes = encoded(&DynamicImage::from(photo(1, 1)), ImageFormat::Png);
    bytes[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]); // 60000 x 60000
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(bytes.len() < 100);
    match read(&bytes).unwrap_err() {
        Error::TooLarge { found, most, .. } => assert_eq!((found, most), (3_600_000_000, 1 << 20)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_small_file_is_no_large_photo_whatever_the_limit() {
    let mut bytes = encoded(&DynamicImage::from(photo(1, 1)), ImageFormat::Png);
    bytes[16..24].copy_from_slice(&[0, 0, 0x3F, 0xC0, 0, 0, 0x2F, 0xD0]); // 16320 x 12240
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = decode_bytes(&bytes, Path::new("p"), MAX_PIXELS).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Expands {
                pixels: 199_756_800,
                ..
            }
        ),
        "{error}"
    );
    const { assert!(MAX_PIXELS > 199_756_800) };
}

#[test]
fn each_format_is_refused_above_the_limit_and_taken_at_it() {
    let picture = DynamicImage::from(photo(10, 10));
    for format in [
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
        ImageFormat::Jpeg,
    ] {
        let bytes = encoded(&picture, format);
        assert!(
            decode_bytes(&bytes, Path::new("p"), 100).is_ok(),
            "{format:?}"
        );
        let error = decode_bytes(&bytes, Path::new("p"), 99).unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { found: 100, .. }),
            "{format:?}: {error}"
        );
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let picture = DynamicImage::from(photo(40, 30));
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
    ] {
        let bytes = encoded(&picture, format);
        assert!(read(&bytes).is_ok(), "{format:?}");
        for length in 0..bytes.len() {
            assert!(
                read(&bytes[..length]).is_err(),
                "{format:?} cut at {length}"
            );
        }
    }
}

#[test]
fn a_file_that_is_no_picture_is_an_error_with_its_name() {
    for bytes in [&b""[..], b"hello, this is text", &[0; 64]] {
        let message = read(bytes).unwrap_err().to_string();
        assert!(message.starts_with("photo: "), "{message}");
    }
}

#[test]
fn a_damaged_picture_is_an_error_or_a_picture_but_never_a_panic() {
    let picture = DynamicImage::from(photo(20, 20));
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::WebP,
        ImageFormat::Bmp,
    ] {
        let bytes = encoded(&picture, format);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x55;
            if let Ok(image) = read(&damaged) {
                assert_eq!(image.pixels.len(), 3 * image.width * image.height);
            }
        }
    }
}

#[test]
fn files_are_read_and_missing_ones_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg"); // a PNG under a wrong name
    std::fs::write(
        &path,
        encoded(&DynamicImage::from(photo(4, 4)), ImageFormat::Png),
    )
    .unwrap();
    assert_eq!(decode(&path, 16).unwrap().width, 4);
    let error = decode(&folder.path().join("b.jpg"), 16).unwrap_err();
    assert!(matches!(&error, Error::Io { .. }) && error.to_string().contains("b.jpg"));
}

#[test]
fn a_file_far_longer_than_its_pixels_need_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.png");
    let file = File::create(&path).unwrap();
    file.set_len(OVERHEAD + 17).unwrap(); // sparse: takes no room
    assert!(matches!(decode(&path, 1), Err(Error::TooLarge { .. })));
}

/// The check sum of PNG chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| {
            (c >> 1) ^ (0xEDB8_8320 & (0u32.wrapping_sub(c & 1)))
        })
    })
}
