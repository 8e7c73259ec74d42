//! Which way up a picture is, as its metadata say it: what Pillow's `ImageOps.exif_transpose` heeds.
//!
//! The tag may have any of TIFF's types of numbers, in either byte order; Exif may lie in a JPEG's APP1,
//! in a PNG's `eXIf` before or after the pixels or in ImageMagick's text chunk, or in a WebP's chunk.
//! Where Exif says nothing of the orientation, XMP is asked.
//!
//! # Differs
//! Pillow takes an orientation of TIFF's type BYTE for a string of bytes and leaves the picture as it
//! is; here it is a number like the others.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;
use image::ImageFormat;
use image::metadata::Orientation;

use super::container::{png_chunks, segments, webp_chunks};

/// The longest text that is inflated.
const MAX_TEXT: u64 = 1 << 20;
const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// How the picture in `bytes`, a file of `format`, is to be turned.
pub(super) fn orientation(bytes: &[u8], format: ImageFormat) -> Orientation {
    let metadata = match format {
        ImageFormat::Jpeg => of_jpeg(bytes),
        ImageFormat::Png => of_png(bytes),
        ImageFormat::WebP => of_webp(bytes),
        _ => Metadata::default(),
    };
    let value = metadata
        .exif
        .and_then(|block| in_exif(&block))
        .or_else(|| metadata.xmp.and_then(|text| in_xmp(&text)));
    value
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

#[derive(Default)]
struct Metadata<'a> {
    /// From the TIFF header on, or with a JPEG's prefix before it.
    exif: Option<Cow<'a, [u8]>>,
    xmp: Option<Cow<'a, [u8]>>,
}

/// A long Exif block goes on in the next segment of its kind. What follows the first scan is no
/// header.
fn of_jpeg(bytes: &[u8]) -> Metadata<'_> {
    let mut found = Metadata::default();
    for segment in segments(bytes).take_while(|segment| segment.marker != 0xDA) {
        if segment.marker != 0xE1 {
            continue;
        }
        if let Some(block) = segment.body.strip_prefix(EXIF) {
            match &mut found.exif {
                Some(before) => before.to_mut().extend_from_slice(block),
                none => *none = Some(Cow::Borrowed(block)),
            }
        } else if let Some(text) = segment.body.strip_prefix(XMP) {
            found.xmp = Some(Cow::Borrowed(text));
        }
    }
    found
}

fn of_png(bytes: &[u8]) -> Metadata<'_> {
    let mut found = Metadata::default();
    let mut profile = None;
    for (kind, data) in png_chunks(bytes) {
        if kind == b"eXIf" {
            found.exif = Some(Cow::Borrowed(data));
        }
        match png_text(kind, data) {
            Some((b"XML:com.adobe.xmp", text)) => found.xmp = Some(text),
            Some((b"Raw profile type exif", text)) => profile = Some(from_hex(&text)),
            _ => {}
        }
    }
    found.exif = found.exif.or(profile.map(Cow::Owned));
    found
}

/// Key and text of a text chunk of a PNG (ISO 15948, 11.3.4), if it is one.
fn png_text<'a>(kind: &[u8], data: &'a [u8]) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
    let cut = |data: &'a [u8]| {
        let end = data.iter().position(|&byte| byte == 0)?;
        Some((&data[..end], &data[end + 1..]))
    };
    let (key, rest) = match kind {
        b"tEXt" | b"zTXt" | b"iTXt" => cut(data)?,
        _ => return None,
    };
    let (deflated, text) = match kind {
        b"tEXt" => (false, rest),
        b"zTXt" => (true, rest.get(1..)?),
        _ => {
            let (_language, rest_of_it) = cut(rest.get(2..)?)?;
            let (_key_in_it, text) = cut(rest_of_it)?;
            (*rest.first()? == 1, text)
        }
    };
    if !deflated {
        return Some((key, Cow::Borrowed(text)));
    }
    let mut inflated = Vec::new();
    let mut source = ZlibDecoder::new(text).take(MAX_TEXT);
    source.read_to_end(&mut inflated).ok()?;
    Some((key, Cow::Owned(inflated)))
}

/// The block that ImageMagick writes as text: an empty line, the kind, its length, then hex digits.
fn from_hex(text: &[u8]) -> Vec<u8> {
    let lines = text.split(|&byte| byte == b'\n').skip(3);
    let digits: Vec<u8> = lines
        .flatten()
        .filter_map(|&byte| char::from(byte).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Chunks count that the header announces, as for libwebp.
fn of_webp(bytes: &[u8]) -> Metadata<'_> {
    let flags = webp_chunks(bytes)
        .next()
        .filter(|(kind, _)| kind == b"VP8X")
        .and_then(|(_, data)| data.first().copied())
        .unwrap_or(0);
    let find = |flag: u8, wanted: &[u8]| {
        (flags & flag != 0)
            .then(|| webp_chunks(bytes).find(|(kind, _)| *kind == wanted))
            .flatten()
            .map(|(_, data)| Cow::Borrowed(data))
    };
    Metadata {
        exif: find(0x08, b"EXIF"),
        xmp: find(0x04, b"XMP "),
    }
}

/// The orientation in the first directory of a TIFF block; 0 where it is there and no number from 1 to
/// 8. `None` without one.
fn in_exif(mut block: &[u8]) -> Option<u8> {
    while let Some(rest) = block.strip_prefix(EXIF) {
        block = rest;
    }
    let tiff = Tiff {
        big: match block.get(..4)? {
            b"MM\0\x2a" | b"MM\x2a\0" => true,
            b"II\x2a\0" | b"II\0\x2a" => false,
            _ => return None,
        },
        block,
    };
    let directory = tiff.number(4, 4)? as usize;
    let entries = tiff.number(directory, 2)? as usize;
    let mut found = None;
    for entry in 0..entries {
        let at = directory + 2 + 12 * entry;
        // A block that is cut off has the entries before.
        if block.len() < at + 12 {
            break;
        }
        if tiff.number(at, 2)? == 0x0112 {
            found = tiff.value(at).or(found);
        }
    }
    found
}

struct Tiff<'a> {
    block: &'a [u8],
    big: bool,
}

impl Tiff<'_> {
    /// The unsigned number of `length` bytes at `at`.
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.block.get(at..at.checked_add(length)?)?;
        let add = |sum, byte: &u8| sum << 8 | u64::from(*byte);
        Some(match self.big {
            true => bytes.iter().fold(0, add),
            false => bytes.iter().rev().fold(0, add),
        })
    }

    /// The first value of the entry at `at`, as an orientation; 0 if it is none. `None` for an entry of
    /// an unknown type, without values, or with values that are not in the block.
    fn value(&self, at: usize) -> Option<u8> {
        let (kind, count) = (self.number(at + 2, 2)?, self.number(at + 4, 4)?);
        let length: usize = match kind {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16 => 8,
            _ => return None,
        };
        let all = usize::try_from(count).ok()?.checked_mul(length)?;
        let place = match all {
            0 => return None,
            1..=4 => at + 8,
            _ => usize::try_from(self.number(at + 8, 4)?).ok()?,
        };
        self.block.get(place..place.checked_add(all)?)?;
        let number = self.number(place, length)?;
        let value = match kind {
            1 | 3 | 4 | 13 | 16 => number as f64,
            6 => f64::from(number as u8 as i8),
            8 => f64::from(number as u16 as i16),
            9 => f64::from(number as u32 as i32),
            11 => f64::from(f32::from_bits(number as u32)),
            12 => f64::from_bits(number),
            5 => self.number(place, 4)? as f64 / self.number(place + 4, 4)? as f64,
            10 => {
                let part = |at| Some(f64::from(self.number(at, 4)? as u32 as i32));
                part(place)? / part(place + 4)?
            }
            // Text and undefined bytes are no numbers.
            _ => 0.,
        };
        Some((1..=8).find(|n| f64::from(*n) == value).unwrap_or(0))
    }
}

/// The first digit given as `tiff:Orientation`, as an attribute or as an element.
fn in_xmp(text: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    text.windows(NAME.len())
        .enumerate()
        .filter(|(_, window)| *window == NAME)
        .find_map(|(at, _)| {
            let rest = &text[at + NAME.len()..];
            let value = rest.strip_prefix(b"=\"").or(rest.strip_prefix(b">"))?;
            let digit = value.first().filter(|byte| byte.is_ascii_digit())?;
            Some(digit - b'0')
        })
}
