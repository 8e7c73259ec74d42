//! From a file to RGB pixels the right way up.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::{Error, Image};
mod bmp;
mod complete;
mod container;
mod jpeg;
mod orientation;
use complete::check_complete;
use orientation::orientation;

/// Bytes a pixel may take while decoding: 16 bits of RGBA, and once more for the conversion.
const BYTES_PER_PIXEL: u64 = 16;

/// What a file may hold beside its pixels (metadata, colour profiles).
const OVERHEAD: u64 = 16 << 20;

/// Pictures of more pixels than this must have files of some length.
const LARGE: u64 = 1 << 26;

/// How many times its file's length a large picture may have in decoded bytes. A baseline JPEG of the usual 4:2:0
/// has at most 512: of one colour, its 6 blocks for 256 pixels take 2 bits each. Other pictures of one colour can
/// have more, and a small file would fill the memory.
const EXPANSION: u64 = 600;

/// The most pixels that a file may have, where nothing else is said: 268 million, above the 200 million
/// of the largest phone cameras.
pub const MAX_PIXELS: u64 = 1 << 28;

/// A kind of file that is not decoded, and what to do.
#[derive(Debug)]
struct Refused {
    kind: String,
    remedy: &'static str,
}

/// Reads a JPEG, PNG, WebP or BMP, told by its content whatever its name is.
///
/// The pixels are Pillow's, those of `ImageOps.exif_transpose(Image.open(path)).convert("RGB")`: the
/// orientation that the camera recorded is applied, grey pictures become RGB, an alpha channel is
/// dropped, profiles and gamma are not applied, and an animation gives its first frame. The size in the
/// file's header is checked before any pixel is allocated.
///
/// Decoding takes 3 bytes a pixel for the result, and as much again to turn it. Before that, a progressive
/// JPEG takes 3 to 6 bytes a pixel more, a picture of 16 bits or with an alpha channel up to 8.
///
/// # Differs
/// - 16 bits become 8 by rounding. Pillow drops the lower byte, which is 1 less at most; of 16-bit grey
///   it cuts off everything above 255, which leaves white.
/// - A JPEG and a lossy WebP differ by a few grey levels, since decoders round and interpolate colour in
///   their own ways.
///
/// # Errors
/// - [`Error::Io`]: the file cannot be read.
/// - [`Error::Decode`]: not a picture of a known format, or a damaged one.
/// - [`Error::Kind`]: a file that is as it should be, of a kind that would be decoded wrong.
/// - [`Error::Truncated`]: the file ends early. Decoders fill what is missing with grey; a picture
///   that is half grey would be learned as such.
/// - [`Error::TooLarge`]: more than `max_pixels` pixels, or a file far larger than that many need.
/// - [`Error::Expands`]: a file that is far too small for the many pixels that it claims.
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

/// Decodes a picture from bytes at hand; `path` names them in errors.
///
/// # Errors
/// Bytes that are no picture of a known format, are damaged or cut short, would be decoded wrong, or hold more than
/// `max_pixels` pixels.
pub fn decode_bytes(bytes: &[u8], path: &Path, max_pixels: u64) -> Result<Image, Error> {
    let damaged = |source: ImageError| Error::Decode {
        path: path.to_owned(),
        source,
    };
    let too_large = |what, found, most| Error::TooLarge {
        path: path.to_owned(),
        what,
        found,
        most,
    };
    let format = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| damaged(ImageError::IoError(e)))?
        .format();
    let readable = match format {
        Some(ImageFormat::Jpeg) => jpeg::readable(bytes),
        Some(ImageFormat::Bmp) => bmp::readable(bytes),
        _ => Ok(Cow::Borrowed(bytes)),
    };
    let readable = readable.map_err(|Refused { kind, remedy }| Error::Kind {
        path: path.to_owned(),
        kind,
        remedy,
    })?;
    let mut reader = ImageReader::new(Cursor::new(&*readable));
    if let Some(format) = format {
        reader.set_format(format);
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(
        max_pixels
            .saturating_mul(BYTES_PER_PIXEL)
            .saturating_add(OVERHEAD),
    );
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let found = u64::from(width) * u64::from(height);
    if found > max_pixels {
        return Err(too_large("the number of pixels", found, max_pixels));
    }
    if found > LARGE && decoder.total_bytes() / EXPANSION > bytes.len() as u64 {
        return Err(Error::Expands {
            path: path.to_owned(),
            pixels: found,
            bytes: bytes.len() as u64,
        });
    }
    if let Some(format) = format {
        check_complete(bytes, format).map_err(|problem| Error::Truncated {
            path: path.to_owned(),
            problem,
        })?;
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    // Turned once there are but three bytes a pixel.
    let mut picture = DynamicImage::ImageRgb8(picture.into_rgb8());
    if let Some(format) = format {
        picture.apply_orientation(orientation(bytes, format));
    }
    let rgb = picture.into_rgb8();
    Ok(Image {
        width: rgb.width() as usize,
        height: rgb.height() as usize,
        pixels: rgb.into_raw(),
    })
}

#[cfg(test)]
mod tests;
