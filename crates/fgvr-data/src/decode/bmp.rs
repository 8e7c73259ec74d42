//! BMPs with a header of OS/2 2.x, which the decoder below does not know, brought to Windows' header.

use std::borrow::Cow;

use super::Refused;

/// The header of the file, before that of the picture.
const FILE: usize = 14;
/// The header of Windows 3, of whose fields OS/2's has the first, and at least four.
const WINDOWS: usize = 40;

/// The bytes to decode. A file whose headers make no sense is left to the decoder, which says so.
pub(super) fn readable(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Refused> {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(four) as usize)
    };
    let Some(length @ 16..=64) = number(FILE).filter(|n| !matches!(n, 40 | 52 | 56)) else {
        return Ok(Cow::Borrowed(bytes));
    };
    let (Some(header), Some(data)) = (bytes.get(FILE..FILE + length), number(10)) else {
        return Ok(Cow::Borrowed(bytes));
    };
    // 1 and 2 are runs of 8 and 4 bits, as in Windows' header.
    let compression = header.get(16..20).map_or(0, |four| four[0]);
    if compression > 2 {
        return Err(Refused {
            kind:
                "a BMP of OS/2 with Huffman or 24-bit run-length coding, which is not decoded here"
                    .to_owned(),
            remedy: "save it again as PNG, such as by ImageMagick",
        });
    }
    let mut head = header[..length.min(WINDOWS)].to_vec();
    head.resize(WINDOWS, 0);
    head[..4].copy_from_slice(&(WINDOWS as u32).to_le_bytes());
    let data = (data + WINDOWS).saturating_sub(length);
    let mut mended = bytes[..FILE].to_vec();
    mended[10..].copy_from_slice(&u32::try_from(data).unwrap_or(u32::MAX).to_le_bytes());
    mended.extend(head);
    mended.extend_from_slice(&bytes[FILE + length..]);
    Ok(Cow::Owned(mended))
}
