//! Whether a file has its end.
//!
//! Decoders differ in what they make of a file that stops early: most report it, but a JPEG is
//! commonly filled up with grey, and a PNG or WebP may lack its last bytes unnoticed. So the
//! container is walked before decoding.

use image::ImageFormat;

use super::container::{png_chunks, segments};

/// Whether `bytes`, a file of `format`, reach the end that the format prescribes; what is missing
/// otherwise.
pub(super) fn check_complete(bytes: &[u8], format: ImageFormat) -> Result<(), &'static str> {
    let (complete, problem) = match format {
        ImageFormat::Jpeg => (
            segments(bytes).any(|segment| segment.marker == 0xD9),
            "a JPEG without its end-of-image marker",
        ),
        ImageFormat::Png => (
            png_chunks(bytes).any(|(kind, _)| kind == b"IEND"),
            "a PNG without its end chunk",
        ),
        ImageFormat::WebP => (webp(bytes), "a WebP shorter than its header says"),
        // The decoder of BMP reads exactly the rows that the header tells, and fails otherwise.
        _ => return Ok(()),
    };
    complete.then_some(()).ok_or(problem)
}

/// A WebP is one RIFF chunk, whose length stands in its header.
fn webp(bytes: &[u8]) -> bool {
    bytes.get(4..8).is_some_and(|length| {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        bytes.len() as u64 >= u64::from(length) + 8
    })
}
