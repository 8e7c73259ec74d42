//! One array of NumPy's format: numbers and texts, no pickled objects.

use std::io::Read;

/// The most values of an array; f64 of so many are 8 GiB.
const MOST: usize = 1 << 30;

/// An array, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values,
}

/// The values, in the widest type of their kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    Real(Vec<f32>),
    Whole(Vec<i64>),
    Text(Vec<String>),
}

impl Values {
    /// In words, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Real(_) => "real numbers",
            Self::Whole(_) => "whole numbers",
            Self::Text(_) => "texts",
        }
    }
}

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stored {
    kind: char,
    /// Bytes of a value; characters of a text.
    size: usize,
    big: bool,
}

/// Reads an array.
///
/// # Errors
/// What is wrong with it, in words that go after the name of the array.
pub(crate) fn read(reader: &mut impl Read) -> Result<Array, String> {
    let cut = |error: std::io::Error| format!("cannot be read ({error})");
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(cut)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err("is no array of NumPy".to_owned());
    }
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length).map_err(cut)?;
            u32::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(cut)?;
            u32::from_le_bytes(length)
        }
        found => return Err(format!("is of NumPy's format {found}, expected 1, 2 or 3")),
    };
    // NumPy itself refuses longer ones.
    if length > 10_000 {
        return Err(format!(
            "has a header of {length} bytes, expected at most 10000"
        ));
    }
    let mut text = vec![0; length as usize];
    reader.read_exact(&mut text).map_err(cut)?;
    let text = String::from_utf8_lossy(&text);
    let odd = || format!("has a header that cannot be read: {:?}", text.trim_end());
    let stored = stored(value(&text, "descr").ok_or_else(odd)?)?;
    let fortran = match value(&text, "fortran_order").ok_or_else(odd)? {
        rest if rest.starts_with("True") => true,
        rest if rest.starts_with("False") => false,
        _ => return Err(odd()),
    };
    let shape = shape(value(&text, "shape").ok_or_else(odd)?).ok_or_else(odd)?;
    let count = shape
        .iter()
        .try_fold(1usize, |n, side| n.checked_mul(*side));
    let width = if stored.kind == 'U' { 4 } else { 1 };
    let bytes = count
        .filter(|count| *count <= MOST)
        .and_then(|count| count.checked_mul(stored.size)?.checked_mul(width))
        .filter(|bytes| *bytes <= 8 * MOST);
    let (Some(count), Some(bytes)) = (count, bytes) else {
        return Err(format!("is {shape:?}, more than can be read"));
    };
    // Nothing is allocated for what the file only claims.
    let mut data = Vec::new();
    reader
        .take(bytes as u64 + 1)
        .read_to_end(&mut data)
        .map_err(cut)?;
    if data.len() != bytes {
        let found = if data.len() < bytes { "less" } else { "more" };
        return Err(format!("is {shape:?}, and the file holds {found}"));
    }
    let values = values(stored, count, &data)?;
    let values = match (fortran, shape.as_slice()) {
        (true, &[rows, columns]) => values.transposed(rows, columns),
        (true, [_, _, ..]) => {
            return Err("is in Fortran's order; save it with np.ascontiguousarray".to_owned());
        }
        _ => values,
    };
    Ok(Array { shape, values })
}

impl Values {
    /// Column by column to row by row.
    fn transposed(self, rows: usize, columns: usize) -> Self {
        fn order<T: Clone>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
            let places =
                (0..rows).flat_map(|row| (0..columns).map(move |column| column * rows + row));
            places.filter_map(|at| values.get(at).cloned()).collect()
        }
        match self {
            Self::Real(values) => Self::Real(order(&values, rows, columns)),
            Self::Whole(values) => Self::Whole(order(&values, rows, columns)),
            Self::Text(values) => Self::Text(order(&values, rows, columns)),
        }
    }
}

/// What follows `'key':` in the dictionary of a header.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let (at, name) = quoted
        .iter()
        .find_map(|name| Some((text.find(name.as_str())?, name)))?;
    let rest = text[at + name.len()..].trim_start().strip_prefix(':')?;
    Some(rest.trim_start())
}

/// `'<f4'`, and so on.
fn stored(text: &str) -> Result<Stored, String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let inner = quote.and_then(|quote| text[1..].split(quote).next());
    let Some(inner) = inner else {
        return Err(
            "has several fields in a value, expected one array of numbers or texts".to_owned(),
        );
    };
    let plain = inner.trim_start_matches(['<', '>', '|', '=']);
    let big = inner.starts_with('>');
    let kind = plain.chars().next().unwrap_or('?');
    let size = plain.get(kind.len_utf8()..).unwrap_or_default();
    let unknown =
        || format!("has values of type {inner:?}, expected real numbers, whole numbers or texts");
    if kind == 'O' {
        return Err(
            "holds pickled Python objects, which are not read; save an array of numbers or texts"
                .to_owned(),
        );
    }
    let size: usize = match (kind, size) {
        ('?', "") => 1,
        (_, size) => size.parse().map_err(|_| unknown())?,
    };
    let known = match kind {
        'f' => matches!(size, 2 | 4 | 8),
        'i' | 'u' => matches!(size, 1 | 2 | 4 | 8),
        'b' | '?' => size == 1,
        'U' | 'S' => true,
        _ => false,
    };
    known
        .then_some(Stored { kind, size, big })
        .ok_or_else(unknown)
}

/// `(3, 4)`
fn shape(text: &str) -> Option<Vec<usize>> {
    let inside = text.strip_prefix('(')?.split(')').next()?;
    let sides = inside
        .split(',')
        .map(str::trim)
        .filter(|side| !side.is_empty());
    sides
        .map(|side| side.trim_end_matches('L').parse().ok())
        .collect()
}

fn values(stored: Stored, count: usize, data: &[u8]) -> Result<Values, String> {
    let Stored { kind, size, big } = stored;
    /// A value's bytes, the least first.
    fn word<const N: usize>(bytes: &[u8], big: bool) -> [u8; N] {
        let mut word = [0; N];
        word.copy_from_slice(bytes);
        if big {
            word.reverse();
        }
        word
    }
    // An empty text has no bytes, and there may be many.
    let places = || {
        (0..count).map(|at| &data[at * (data.len() / count.max(1))..][..data.len() / count.max(1)])
    };
    Ok(match (kind, size) {
        ('f', 2) => Values::Real(
            places()
                .map(|b| half(u16::from_le_bytes(word(b, big))))
                .collect(),
        ),
        ('f', 4) => Values::Real(places().map(|b| f32::from_le_bytes(word(b, big))).collect()),
        ('f', _) => Values::Real(
            places()
                .map(|b| f64::from_le_bytes(word(b, big)) as f32)
                .collect(),
        ),
        ('b' | '?', _) | ('u', 1) => Values::Whole(places().map(|b| i64::from(b[0])).collect()),
        ('i', 1) => Values::Whole(
            places()
                .map(|b| i64::from(i8::from_le_bytes(word(b, big))))
                .collect(),
        ),
        ('i', 2) => Values::Whole(
            places()
                .map(|b| i64::from(i16::from_le_bytes(word(b, big))))
                .collect(),
        ),
        ('i', 4) => Values::Whole(
            places()
                .map(|b| i64::from(i32::from_le_bytes(word(b, big))))
                .collect(),
        ),
        ('i', _) => Values::Whole(places().map(|b| i64::from_le_bytes(word(b, big))).collect()),
        ('u', 2) => Values::Whole(
            places()
                .map(|b| i64::from(u16::from_le_bytes(word(b, big))))
                .collect(),
        ),
        ('u', 4) => Values::Whole(
            places()
                .map(|b| i64::from(u32::from_le_bytes(word(b, big))))
                .collect(),
        ),
        ('u', _) => {
            let values = places().map(|b| i64::try_from(u64::from_le_bytes(word(b, big))));
            let values: Result<Vec<i64>, _> = values.collect();
            Values::Whole(values.map_err(|_| "holds a whole number above i64's".to_owned())?)
        }
        ('S', _) => {
            let text = |b: &[u8]| String::from_utf8_lossy(b).trim_end_matches('\0').to_owned();
            Values::Text(places().map(text).collect())
        }
        _ => {
            let text = |bytes: &[u8]| -> Option<String> {
                let points = bytes
                    .chunks_exact(4)
                    .map(|b| u32::from_le_bytes(word(b, big)));
                let points: Vec<u32> = points.collect();
                let used = points
                    .iter()
                    .rposition(|point| *point != 0)
                    .map_or(0, |at| at + 1);
                points[..used]
                    .iter()
                    .map(|point| char::from_u32(*point))
                    .collect()
            };
            let texts: Option<Vec<String>> = places().map(text).collect();
            Values::Text(texts.ok_or("holds a text that is no Unicode")?)
        }
    })
}

/// IEEE's 16 bits.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1f32 } else { 1. };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0. => f32::INFINITY,
        31 => f32::NAN,
        _ => (1. + fraction / 1024.) * 2f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An array as NumPy writes it.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn told(header: &str, data: &[u8]) -> Result<Array, String> {
        read(&mut file(header, data).as_slice())
    }

    #[test]
    fn numbers_of_every_width_and_order_are_read() {
        let header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }   \n";
        let data: Vec<u8> = [1f32, 3., 2., 4.]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let array = told(header, &data).unwrap();
        assert_eq!(array.shape, [2, 2]);
        assert_eq!(array.values, Values::Real(vec![1., 2., 3., 4.]));
        let header = "{'descr': '>f2', 'fortran_order': False, 'shape': (4,), }\n";
        let array = told(header, &[0x3c, 0, 0xc1, 0, 0, 1, 0x7c, 0]).unwrap();
        let expected = vec![1., -2.5, 2f32.powi(-24), f32::INFINITY];
        assert_eq!(array.values, Values::Real(expected));
        let header = "{'descr': '|i1', 'fortran_order': False, 'shape': (2,), }\n";
        assert_eq!(
            told(header, &[255, 3]).unwrap().values,
            Values::Whole(vec![-1, 3])
        );
        let header = "{'descr': '<U2', 'fortran_order': False, 'shape': (2,), }\n";
        let data = [b'a', 0, 0, 0, 0, 0, 0, 0, 0xfc, 0, 0, 0, b'b', 0, 0, 0];
        let texts = vec!["a".to_owned(), "üb".to_owned()];
        assert_eq!(told(header, &data).unwrap().values, Values::Text(texts));
    }

    #[test]
    fn what_is_damaged_is_said_and_nothing_is_allocated_for_claims() {
        for (header, data, what) in [
            (
                "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
                &[][..],
                "pickled",
            ),
            (
                "{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }",
                &[],
                "<c8",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
                &[0; 7],
                "less",
            ),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
                &[0; 7],
                "more",
            ),
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,), }",
                &[0; 8],
                "less",
            ),
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 99999999999), }",
                &[],
                "more than can",
            ),
            (
                "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
                &[0; 4],
                "several fields",
            ),
            ("{'shape': (1,), }", &[0; 4], "header"),
        ] {
            let error = told(header, data).unwrap_err();
            assert!(error.contains(what), "{header}: {error}");
        }
        assert!(
            read(&mut &b"PK"[..])
                .unwrap_err()
                .contains("cannot be read")
        );
    }
}
