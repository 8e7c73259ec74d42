//! From a file to RGB pixels the right way up.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};

use crate::{Error, Image};
mod complete;
use complete::check_complete;

/// Bytes a pixel may take while decoding: 16 bits of RGBA, and once more for the conversion.
const BYTES_PER_PIXEL: u64 = 16;

/// What a file may hold beside its pixels (metadata, colour profiles).
const OVERHEAD: u64 = 16 << 20;

/// Reads a JPEG, PNG, WebP or BMP, told by its content whatever its name is.
///
/// The orientation that the camera recorded is applied. Grey pictures become RGB, an alpha channel
/// is dropped, 16 bits become 8. The size in the file's header is checked before any pixel is
/// allocated.
///
/// # Errors
/// - [`Error::Io`]: the file cannot be read.
/// - [`Error::Decode`]: not a picture of a known format, or a damaged one.
/// - [`Error::Truncated`]: the file ends early. Decoders fill what is missing with grey; a picture
///   that is half grey would be learned as such.
/// - [`Error::TooLarge`]: more than `max_pixels` pixels, or a file far larger than that many need.
pub fn decode(path: &Path, max_pixels: u64) -> Result<Image, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let most = max_pixels
        .saturating_mul(BYTES_PER_PIXEL)
        .saturating_add(OVERHEAD);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    // One byte more than allowed tells a file that is too long from one that fits exactly.
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > most {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            what: "the file's length in bytes",
            found: bytes.len() as u64,
            most,
        });
    }
    decode_bytes(&bytes, path, max_pixels)
}

/// As [`decode`], from bytes at hand; `path` names them in errors.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(bytes: &[u8], path: &Path, max_pixels: u64) -> Result<Image, Error> {
    let damaged = |source: ImageError| Error::Decode {
        path: path.to_owned(),
        source,
    };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| damaged(ImageError::IoError(e)))?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(
        max_pixels
            .saturating_mul(BYTES_PER_PIXEL)
            .saturating_add(OVERHEAD),
    );
    reader.limits(limits);
    let format = reader.format();
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let found = u64::from(width) * u64::from(height);
    if found > max_pixels {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            what: "the number of pixels",
            found,
            most: max_pixels,
        });
    }
    if let Some(format) = format {
        check_complete(bytes, format).map_err(|problem| Error::Truncated {
            path: path.to_owned(),
            problem,
        })?;
    }
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    let rgb = picture.into_rgb8();
    Ok(Image {
        width: rgb.width() as usize,
        height: rgb.height() as usize,
        pixels: rgb.into_raw(),
    })
}

#[cfg(test)]
mod tests;
