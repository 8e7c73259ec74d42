//! The format of a file, by its first bytes and not by its name.

use super::file::StoredFile;
use super::foreign;
use super::pickle::legacy;
use crate::Error;

/// The formats that are read.
pub(crate) enum Kind {
    Safetensors,
    /// `torch.save` since version 1.6.
    Zip,
    /// `torch.save` before.
    Legacy,
}

/// Bytes that are looked at: enough for the signature of a tar archive and the title of a page.
const LOOKED_AT: u64 = 4096;

/// The format of `file`.
pub(crate) fn kind(file: &StoredFile) -> Result<Kind, Error> {
    let start = file.read_at(0, file.info.bytes.min(LOOKED_AT))?;
    // The length of a header, then its first character: no other format begins so.
    if start.get(4..9) == Some(b"\0\0\0\0{") {
        return Ok(Kind::Safetensors);
    }
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Ok(Kind::Zip);
    }
    if legacy::begins(&start) {
        return Ok(Kind::Legacy);
    }
    match foreign::file(file, &start) {
        Some(error) => Err(error),
        // Its reader says what is wrong with the length or the header.
        None => Ok(Kind::Safetensors),
    }
}
