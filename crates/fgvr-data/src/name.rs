//! Names of files as text. Systems keep names as bytes; not every name is UTF-8.
//!
//! An id is a `String`. A byte that is no part of UTF-8 is written `\xHH`, two capital hexadecimal
//! digits from `\x80` to `\xFF`. A backslash that would read as such an escape is written `\x5C`.
//! Every other name stands in its id as it is.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The text of a path in which every name of bytes has a text of its own: `\xHH` stands for a byte
/// that is no part of UTF-8, `\x5C` for a backslash that would read as such an escape. A path in
/// UTF-8 is otherwise its own text. Names are parted by `/`. [`path_of`] goes back.
///
/// ```
/// # #[cfg(unix)] {
/// use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};
/// let path = Path::new(OsStr::from_bytes(b"\xe9t\xe9/1.jpg")); // été in Latin-1
/// let id = fgvr_data::id_of(path);
/// assert_eq!(id, r"\xE9t\xE9/1.jpg");
/// assert_eq!(fgvr_data::path_of(&id), path);
/// # }
/// ```
#[must_use]
pub fn id_of(path: &Path) -> String {
    let text = text_of(path.as_os_str());
    if std::path::MAIN_SEPARATOR == '/' {
        text
    } else {
        text.replace(std::path::MAIN_SEPARATOR, "/")
    }
}

/// The path that [`id_of`] made `id` of. Where the system's names are not bytes, what is no UTF-8
/// comes back as the replacement character.
#[must_use]
pub fn path_of(id: &str) -> PathBuf {
    let bytes = bytes_of(id);
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(bytes).into()
    }
    #[cfg(not(unix))]
    {
        String::from_utf8_lossy(&bytes).into_owned().into()
    }
}

/// `text` on one line, as it can be printed: control characters, ends of lines and characters that
/// turn the direction of writing are escaped (`\n`, `\u{1b}`), everything else is as it was.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(unprintable) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if unprintable(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

/// A path in a message: its text, as it can be printed.
pub(crate) fn shown_path(path: &Path) -> String {
    shown(&text_of(path.as_os_str())).into_owned()
}

/// The text of one name.
pub(crate) fn text_of(name: &OsStr) -> String {
    text_of_bytes(name.as_encoded_bytes())
}

/// The text of one name, or of a path with `/` between its names.
pub(crate) fn text_of_bytes(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let valid = chunk.valid();
        for (at, c) in valid.char_indices() {
            if c == '\\' && escaped_byte(&valid[at..]).is_some() {
                text.push_str("\\x5C");
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

/// The name of the class that the folder with the text `folder` stands for: in Unicode's composed
/// form (NFC), since one system writes an accent as a letter of its own where another does not. A
/// name that is not UTF-8 has no such form and stays as it is.
pub(crate) fn class_name(folder: &str) -> Cow<'_, str> {
    if is_nfc(folder) || std::str::from_utf8(&bytes_of(folder)).is_err() {
        Cow::Borrowed(folder)
    } else {
        Cow::Owned(folder.nfc().collect())
    }
}

/// The bytes of the name with the text `id`.
fn bytes_of(id: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(id.len());
    let mut rest = id;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let (byte, length) = match escaped_byte(rest) {
            Some(byte) => (byte, "\\xHH".len()),
            None => (b'\\', 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The byte whose escape `text` begins with.
fn escaped_byte(text: &str) -> Option<u8> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let byte = (digit(*digits.first()?)? << 4) | digit(*digits.get(1)?)?;
    (byte >= 0x80 || byte == b'\\').then_some(byte)
}

fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_utf_8_is_its_own_text() {
        for name in [
            "wren.jpg",
            "é/日本.png",
            r"a\b",
            r"\x41",
            r"\x4",
            r"100%.jpg",
            "a\nb,c",
        ] {
            assert_eq!(text_of(OsStr::new(name)), name);
            assert_eq!(path_of(name), Path::new(name));
        }
    }

    #[cfg(unix)]
    #[test]
    fn every_name_of_bytes_has_a_text_of_its_own_that_leads_back() {
        use std::os::unix::ffi::OsStrExt;
        // All names of up to four of the letters that escapes are made of, and of bytes that are no UTF-8.
        let letters = [
            b"\\",
            b"x".as_slice(),
            b"E",
            b"9",
            b"5",
            b"C",
            b"\xe9",
            b"\xff",
            "é".as_bytes(),
        ];
        let mut names = vec![Vec::new()];
        let mut texts = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let longer = |name: &Vec<u8>| letters.map(|letter| [name.as_slice(), letter].concat());
            names = names.iter().flat_map(longer).collect();
            for name in &names {
                let text = text_of(OsStr::from_bytes(name));
                assert_eq!(path_of(&text).as_os_str().as_bytes(), name, "{text}");
                texts.insert(text);
            }
        }
        // é is its two bytes, which none of the other letters is, so that all names differ.
        assert_eq!(texts.len(), (1..=5).map(|n| 9usize.pow(n)).sum::<usize>());
    }

    #[test]
    fn what_breaks_a_line_or_a_terminal_is_escaped_when_shown() {
        assert_eq!(shown("plain é, 日本"), "plain é, 日本");
        assert_eq!(shown("a\nb\t\u{1b}[31m"), r"a\nb\t\u{1b}[31m");
        assert_eq!(shown("\u{202e}gpj.exe"), r"\u{202e}gpj.exe");
        assert_eq!(shown("\u{9b}\u{2028}"), r"\u{9b}\u{2028}");
    }

    #[test]
    fn a_class_has_one_name_however_its_accents_are_written() {
        assert_eq!(class_name("e\u{301}te\u{301}"), "été");
        assert_eq!(class_name("été"), "été");
        // A combining accent behind an escape belongs to no letter.
        assert_eq!(class_name("\\x8E\u{301}"), "\\x8E\u{301}");
    }
}
