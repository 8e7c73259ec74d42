//! Whether a file has its end.
//!
//! Decoders differ in what they make of a file that stops early: most report it, but a JPEG is
//! commonly filled up with grey, and a PNG or WebP may lack its last bytes unnoticed. So the
//! container is walked before decoding.

use image::ImageFormat;

/// Whether `bytes`, a file of `format`, reach the end that the format prescribes; what is missing
/// otherwise.
pub(super) fn check_complete(bytes: &[u8], format: ImageFormat) -> Result<(), &'static str> {
    match format {
        ImageFormat::Jpeg => jpeg(bytes).ok_or("a JPEG without its end-of-image marker"),
        ImageFormat::Png => png(bytes).ok_or("a PNG without its end chunk"),
        ImageFormat::WebP => webp(bytes).ok_or("a WebP shorter than its header says"),
        // The decoder of BMP reads exactly the rows that the header tells, and fails otherwise.
        _ => Ok(()),
    }
}

/// Walks the segments of a JPEG (ITU T.81, annex B) to its end-of-image marker. Thumbnails have
/// one too, but lie inside segments, which are stepped over.
fn jpeg(bytes: &[u8]) -> Option<()> {
    let mut at = 2; // past the start-of-image marker
    loop {
        // Stray bytes between segments are tolerated, as decoders do; fill bytes are 0xFF.
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
        at += bytes.get(at..)?.iter().position(|&byte| byte != 0xFF)?;
        let marker = *bytes.get(at)?;
        at += 1;
        match marker {
            0xD9 => return Some(()),
            // Stuffed zeros and restart markers occur inside a scan; they and 0x01 have no length.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            _ => {
                let length = bytes.get(at..at + 2)?;
                at += usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
}

/// Walks the chunks of a PNG (ISO 15948, 5.3) to the end of IEND.
fn png(bytes: &[u8]) -> Option<()> {
    let mut at = 8; // past the signature
    loop {
        let head = bytes.get(at..at + 8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        at = at.checked_add(length)?.checked_add(12)?; // length, type, data, check sum
        if bytes.len() < at {
            return None;
        }
        if &head[4..] == b"IEND" {
            return Some(());
        }
    }
}

/// A WebP is one RIFF chunk, whose length stands in its header.
fn webp(bytes: &[u8]) -> Option<()> {
    let length = bytes.get(4..8)?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    (bytes.len() as u64 >= u64::from(length) + 8).then_some(())
}
