//! MATLAB's files of version 5 (`save -v6` and `-v7`, `scipy.io.savemat`), as far as lists of images need them:
//! numbers, text, cells and structures, compressed or not, of either byte order.
//!
//! The format is MathWorks' "MAT-File Format", level 5. Files of level 4 and of 7.3 (HDF5) are refused by name.

use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::text::at;
use crate::Error;

/// The most bytes that the compressed parts of one file may have together once inflated: some ten times those of the
/// largest list that is known.
pub const MOST_INFLATED: u64 = 64 << 20;

/// How deep cells and structures may lie in each other.
const DEEPEST: usize = 16;

const HEADER: usize = 128;
/// Types of elements.
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// A named variable of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name; empty for what MATLAB keeps for itself.
    pub name: String,
    /// What it holds.
    pub value: Array,
}

/// An array; those of more than one dimension in MATLAB's order, the first index running fastest.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Real numbers of any type. Integers beyond 2^53 are rounded.
    Numbers(Vec<f64>),
    /// One row of characters.
    Text(String),
    /// Arrays of any kind.
    Cells(Vec<Array>),
    /// An array of structures.
    Structures(Box<Structures>),
    /// A kind that is not read: complex or sparse numbers, several rows of characters, objects, functions.
    Other,
}

/// An array of structures that have the same fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Structures {
    /// Names of the fields.
    pub fields: Vec<String>,
    /// How many structures there are.
    pub count: usize,
    /// The fields of the first structure, then those of the next, and so on.
    pub values: Vec<Array>,
}

impl Structures {
    /// The field `name` of every structure; `None` without such a field.
    pub fn field<'a>(&'a self, name: &str) -> Option<impl Iterator<Item = &'a Array> + use<'a>> {
        let position = self.fields.iter().position(|field| field == name)?;
        Some(self.values.iter().skip(position).step_by(self.fields.len()))
    }
}

/// The variables in `bytes`, those of the file `file`, whose name is for errors only.
///
/// # Errors
/// [`Error::Index`] with the byte at which something else is expected, and for parts that inflate to more than
/// [`MOST_INFLATED`] bytes.
pub fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Variable>, Error> {
    parse_within(file, bytes, MOST_INFLATED)
}

/// As [`parse`], with another bound on what the compressed parts have together once inflated.
///
/// # Errors
/// As those of [`parse`].
pub fn parse_within(file: &Path, bytes: &[u8], most_inflated: u64) -> Result<Vec<Variable>, Error> {
    let mut reader = Reader {
        file,
        bytes,
        at: 0,
        origin: 0,
        inflated: None,
        big_endian: false,
    };
    let big_endian = reader.header()?;
    reader.big_endian = big_endian;
    let mut left = most_inflated;
    let mut variables = Vec::new();
    while reader.at < bytes.len() {
        let element = reader.element()?;
        match element.kind {
            MATRIX => variables.push(reader.inside(&element).matrix(0)?),
            COMPRESSED => {
                let mut inflated = Vec::new();
                ZlibDecoder::new(element.data)
                    .take(left.saturating_add(1))
                    .read_to_end(&mut inflated)
                    .map_err(|e| {
                        reader.wrong_at(
                            element.at,
                            "compressed data",
                            &format!("some that do not inflate ({e})"),
                        )
                    })?;
                let length = inflated.len() as u64;
                if length > left {
                    let most = format!("at most {most_inflated} bytes of inflated data in all");
                    return Err(reader.wrong_at(element.at, &most, "more"));
                }
                left -= length;
                let mut inner = Reader {
                    bytes: &inflated,
                    at: 0,
                    origin: 0,
                    inflated: Some(element.at),
                    ..reader
                };
                let element = inner.element()?;
                if element.kind != MATRIX {
                    return Err(inner.wrong_at(0, "a matrix", &format!("type {}", element.kind)));
                }
                variables.push(inner.inside(&element).matrix(0)?);
            }
            other => {
                let start = element.at.saturating_sub(8);
                let found = format!("type {other}");
                return Err(reader.wrong_at(start, "a matrix or compressed data", &found));
            }
        }
    }
    Ok(variables)
}

/// A tag and the bytes it announces.
struct Element<'a> {
    kind: u32,
    data: &'a [u8],
    /// Where the data begins in the file, or in what was inflated.
    at: usize,
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    file: &'a Path,
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begin in the file, or in what was inflated.
    origin: usize,
    /// Where the compressed data is in the file.
    inflated: Option<usize>,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    /// Whether numbers have their highest byte first.
    fn header(&mut self) -> Result<bool, Error> {
        if self.bytes.starts_with(b"\x89HDF") || self.bytes.starts_with(b"MATLAB 7.3") {
            let found = "one of version 7.3 (HDF5); save it again with -v7";
            return Err(self.wrong_at(0, "a MAT-file of version 5", found));
        }
        let Some(header) = self.bytes.get(..HEADER) else {
            let found = format!("the end of the file at {}", self.bytes.len());
            return Err(self.wrong_at(0, "a header of 128 bytes", &found));
        };
        let big_endian = match &header[126..] {
            b"IM" => false,
            b"MI" => true,
            other => {
                let found = format!("\"{}\"", other.escape_ascii());
                return Err(self.wrong_at(
                    126,
                    "\"IM\" or \"MI\", as in a MAT-file of version 5",
                    &found,
                ));
            }
        };
        let version = if big_endian { header[124] } else { header[125] };
        if version != 1 {
            return Err(self.wrong_at(124, "version 1 of the format", &format!("{version}")));
        }
        self.at = HEADER;
        Ok(big_endian)
    }

    fn wrong_at(&self, position: usize, expected: &str, found: &str) -> Error {
        let place = match self.inflated {
            None => format!("at byte {position}"),
            Some(start) => format!("at byte {position} of what is compressed at byte {start}"),
        };
        at(
            self.file,
            place,
            format!("expected {expected}, found {found}"),
        )
    }

    /// At the byte that is read next.
    fn wrong(&self, expected: &str, found: &str) -> Error {
        self.wrong_at(self.origin + self.at, expected, found)
    }

    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..count) else {
            let found = format!("the end after {}", rest.len());
            return Err(self.wrong(&format!("{count} bytes of {what}"), &found));
        };
        self.at += count;
        Ok(taken)
    }

    fn word(&mut self, what: &str) -> Result<u32, Error> {
        let bytes = self.take(4, what)?;
        Ok(self.unsigned(bytes) as u32)
    }

    /// The bytes as one number.
    fn unsigned(&self, bytes: &[u8]) -> u64 {
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if self.big_endian {
            bytes.iter().fold(0, add)
        } else {
            bytes.iter().rev().fold(0, add)
        }
    }

    fn element(&mut self) -> Result<Element<'a>, Error> {
        let tag = self.word("a tag")?;
        if tag >> 16 != 0 {
            // A small element: its length stands in the tag, its data in the tag's second half.
            let (kind, length) = (tag & 0xffff, (tag >> 16) as usize);
            let begins = self.origin + self.at;
            if length > 4 {
                return Err(self.wrong_at(
                    begins - 4,
                    "at most 4 bytes in a small element",
                    &format!("{length}"),
                ));
            }
            let data = self.take(4, "a small element")?;
            return Ok(Element {
                kind,
                data: &data[..length],
                at: begins,
            });
        }
        let length = self.word("a tag")? as usize;
        let begins = self.origin + self.at;
        let data = self.take(length, "an element")?;
        if tag != COMPRESSED {
            // The last one of some files lacks what would fill it up to eight bytes.
            let padding = length.next_multiple_of(8) - length;
            self.at += padding.min(self.bytes.len() - self.at);
        }
        Ok(Element {
            kind: tag,
            data,
            at: begins,
        })
    }

    fn inside(&self, element: &Element<'a>) -> Self {
        Self {
            bytes: element.data,
            at: 0,
            origin: element.at,
            ..*self
        }
    }

    fn matrix(&mut self, depth: usize) -> Result<Variable, Error> {
        if depth > DEEPEST {
            let found = "one more in it";
            return Err(self.wrong(&format!("at most {DEEPEST} arrays in each other"), found));
        }
        if self.bytes.is_empty() {
            // An empty array may leave out all that describes one.
            return Ok(Variable {
                name: String::new(),
                value: Array::Numbers(Vec::new()),
            });
        }
        let flags = self.element()?;
        if flags.data.len() != 8 {
            let found = format!("{}", flags.data.len());
            return Err(self.wrong_at(flags.at, "8 bytes of flags of an array", &found));
        }
        let word = self.unsigned(&flags.data[..4]);
        let (class, complex) = (word & 0xff, word & 0x800 != 0);
        if class == 17 {
            // An opaque object has no dimensions.
            return Ok(Variable {
                name: String::new(),
                value: Array::Other,
            });
        }
        let dimensions = self.element()?;
        let sides: Vec<f64> = self.numbers(&dimensions)?;
        let (mut count, mut rows) = (1usize, 0);
        for (i, side) in sides.iter().enumerate() {
            let fits = (*side >= 0.).then_some(*side as usize);
            count = fits
                .and_then(|side| count.checked_mul(side))
                .ok_or_else(|| {
                    self.wrong_at(
                        dimensions.at,
                        "the sides of an array",
                        &format!("{sides:?}"),
                    )
                })?;
            if i == 0 {
                rows = *side as usize;
            }
        }
        if sides.len() < 2 {
            let found = format!("{}", sides.len());
            return Err(self.wrong_at(dimensions.at, "two dimensions or more", &found));
        }
        let name = self.element()?;
        let name = String::from_utf8_lossy(name.data).into_owned();
        let value = match class {
            1 => Array::Cells(self.arrays(count, depth)?),
            2 => self.structures(count, depth)?,
            4 if rows <= 1 => self.text(count)?,
            6..=15 if !complex => self.values(count)?,
            _ => Array::Other,
        };
        Ok(Variable { name, value })
    }

    fn arrays(&mut self, count: usize, depth: usize) -> Result<Vec<Array>, Error> {
        let room = (self.bytes.len() - self.at) / 8;
        if count > room {
            return Err(self.wrong(&format!("{count} arrays"), &format!("room for {room}")));
        }
        let mut arrays = Vec::with_capacity(count);
        for _ in 0..count {
            let element = self.element()?;
            if element.kind != MATRIX {
                let found = format!("type {}", element.kind);
                return Err(self.wrong_at(element.at, "an array", &found));
            }
            arrays.push(self.inside(&element).matrix(depth + 1)?.value);
        }
        Ok(arrays)
    }

    fn structures(&mut self, count: usize, depth: usize) -> Result<Array, Error> {
        let length = self.element()?;
        let width = match self.numbers(&length)?[..] {
            [width] if (1. ..=1024.).contains(&width) => width as usize,
            _ => {
                let expected = "the length of the names of fields, 1 to 1024";
                return Err(self.wrong_at(length.at, expected, "another"));
            }
        };
        let names = self.element()?;
        if !names.data.len().is_multiple_of(width) {
            let (expected, found) = (format!("names of {width} bytes each"), names.data.len());
            return Err(self.wrong_at(names.at, &expected, &format!("{found} bytes")));
        }
        let until_zero = |name: &[u8]| {
            let end = name.iter().position(|byte| *byte == 0);
            String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
        };
        let fields: Vec<String> = names.data.chunks(width).map(until_zero).collect();
        let total = count.saturating_mul(fields.len());
        let values = self.arrays(total, depth)?;
        Ok(Array::Structures(Box::new(Structures {
            fields,
            count,
            values,
        })))
    }

    fn values(&mut self, count: usize) -> Result<Array, Error> {
        let element = self.element()?;
        let values = self.numbers(&element)?;
        if values.len() != count {
            let found = format!("{}", values.len());
            return Err(self.wrong_at(element.at, &format!("{count} numbers"), &found));
        }
        Ok(Array::Numbers(values))
    }

    /// The numbers of an element, of whatever type they were stored in.
    fn numbers(&self, element: &Element<'_>) -> Result<Vec<f64>, Error> {
        let width = match element.kind {
            1 | 2 => 1,
            3 | 4 => 2,
            5..=7 => 4,
            9 | 12 | 13 => 8,
            other => {
                return Err(self.wrong_at(element.at, "numbers", &format!("type {other}")));
            }
        };
        if !element.data.len().is_multiple_of(width) {
            let found = format!("{} bytes", element.data.len());
            return Err(self.wrong_at(element.at, &format!("numbers of {width} bytes"), &found));
        }
        let number = |bytes: &[u8]| {
            let raw = self.unsigned(bytes);
            match element.kind {
                1 => f64::from(raw as i8),
                3 => f64::from(raw as i16),
                5 => f64::from(raw as i32),
                7 => f64::from(f32::from_bits(raw as u32)),
                9 => f64::from_bits(raw),
                12 => raw as i64 as f64,
                _ => raw as f64,
            }
        };
        Ok(element.data.chunks_exact(width).map(number).collect())
    }

    fn text(&mut self, count: usize) -> Result<Array, Error> {
        let element = self.element()?;
        let text = match element.kind {
            // Latin-1 and what MATLAB before Unicode wrote.
            1 | 2 => Some(element.data.iter().map(|byte| char::from(*byte)).collect()),
            16 => std::str::from_utf8(element.data).ok().map(str::to_owned),
            4 | 17 => {
                let units = element
                    .data
                    .chunks(2)
                    .map(|unit| self.unsigned(unit) as u16);
                char::decode_utf16(units)
                    .collect::<Result<String, _>>()
                    .ok()
            }
            other => return Err(self.wrong_at(element.at, "characters", &format!("type {other}"))),
        };
        let Some(text) = text else {
            return Err(self.wrong_at(element.at, "characters", "bytes that are none"));
        };
        // Characters count as such or by their halves in UTF-16.
        let (chars, units) = (text.chars().count(), text.encode_utf16().count());
        if chars != count && units != count {
            return Err(self.wrong_at(
                element.at,
                &format!("{count} characters"),
                &format!("{chars}"),
            ));
        }
        Ok(Array::Text(text))
    }
}

#[cfg(test)]
mod tests;
