//! The pieces that a JPEG, PNG or WebP file is made of, without decoding any.

/// One segment of a JPEG (ITU T.81, annex B).
pub(super) struct Segment<'a> {
    /// The second byte of its marker.
    pub(super) marker: u8,
    /// Where its body begins in the file.
    pub(super) at: usize,
    /// What follows its length; empty for markers that have none.
    pub(super) body: &'a [u8],
}

/// The segments of a JPEG up to and with its end-of-image marker; fewer where the file ends early.
/// Thumbnails have such a marker too, but lie inside segments, which are stepped over.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = Some(2); // past the start-of-image marker
    std::iter::from_fn(move || {
        loop {
            let mut here = at?;
            // Stray bytes between segments are tolerated, as decoders do; fill bytes are 0xFF.
            here += bytes.get(here..)?.iter().position(|&byte| byte == 0xFF)?;
            here += bytes.get(here..)?.iter().position(|&byte| byte != 0xFF)?;
            let marker = *bytes.get(here)?;
            here += 1;
            let length = match marker {
                // Stuffed zeros and restart markers occur inside a scan; they and 0x01 have no length.
                0x00 | 0x01 | 0xD0..=0xD8 => {
                    at = Some(here);
                    continue;
                }
                0xD9 => {
                    at = None;
                    return Some(Segment {
                        marker,
                        at: here,
                        body: &[],
                    });
                }
                _ => bytes.get(here..here + 2)?,
            };
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            at = Some(here + length);
            let body = bytes.get(here + 2..here + length)?;
            return Some(Segment {
                marker,
                at: here + 2,
                body,
            });
        }
    })
}

/// The chunks of a PNG (ISO 15948, 5.3): kind and data, up to and with IEND.
pub(super) fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = Some(8); // past the signature
    std::iter::from_fn(move || {
        let here = at?;
        let head = bytes.get(here..here + 8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = here.checked_add(length)?.checked_add(12)?; // length, kind, data, check sum
        let data = bytes
            .get(here + 8..end - 4)
            .filter(|_| end <= bytes.len())?;
        at = (&head[4..] != b"IEND").then_some(end);
        Some((&head[4..], data))
    })
}

/// The chunks of a WebP: kind and data.
pub(super) fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut at = 12_usize; // past RIFF, its length and WEBP
    std::iter::from_fn(move || {
        let head = bytes.get(at..at.checked_add(8)?)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let start = at + 8;
        let data = bytes.get(start..start.checked_add(length)?)?;
        at = start.checked_add(length)?.checked_add(length % 2)?;
        Some((&head[..4], data))
    })
}
