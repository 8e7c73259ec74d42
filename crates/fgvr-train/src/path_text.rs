//! Paths where only text will do: in JSON, and in the record of a command line.

use std::ffi::OsStr;
use std::path::Path;

use serde::Serializer;

/// `name` as text. A name in UTF-8 is itself; in another, each byte that is not UTF-8 stands as `\xNN` and a
/// backslash as two, so that the name can be had back.
#[must_use]
pub fn path_text(name: impl AsRef<OsStr>) -> String {
    let name = name.as_ref();
    if let Some(text) = name.to_str() {
        return text.to_owned();
    }
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        text.extend(chunk.invalid().iter().map(|byte| format!(r"\x{byte:02x}")));
    }
    text
}

/// For serde: a path as [`path_text`] gives it.
pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_name_in_utf8_is_itself_and_other_bytes_are_told_apart() {
        let text = |bytes: &[u8]| path_text(OsStr::from_bytes(bytes));
        assert_eq!(text("r\u{fc}n \\xfc".as_bytes()), "r\u{fc}n \\xfc");
        assert_eq!(text(b"r\xfcn/\xe9"), r"r\xfcn/\xe9");
        assert_eq!(text(b"\\xfc\xfc"), r"\\xfc\xfc");
    }
}
