//! The little of protobuf's encoding that event files need.
//!
//! A message is a sequence of fields; a field is its key, `number << 3 | kind`, then its value.

const VARINT: u64 = 0;
pub(super) const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
pub(super) const FIXED_32: u64 = 5;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

pub(super) fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, VARINT);
    varint(out, value);
}

pub(super) fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// The value of a field.
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

fn take_varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Gives each field of a message to `take`; `None` if the message is malformed.
pub(super) fn fields<'a>(
    mut data: &'a [u8],
    mut take: impl FnMut(u64, Field<'a>) -> Option<()>,
) -> Option<()> {
    while !data.is_empty() {
        let key = take_varint(&mut data)?;
        let field = match key & 7 {
            VARINT => Field::Varint(take_varint(&mut data)?),
            FIXED_64 => {
                let (value, rest) = data.split_first_chunk()?;
                data = rest;
                Field::Fixed64(*value)
            }
            FIXED_32 => {
                let (value, rest) = data.split_first_chunk()?;
                data = rest;
                Field::Fixed32(*value)
            }
            BYTES => {
                let length = usize::try_from(take_varint(&mut data)?).ok()?;
                let (value, rest) = data.split_at_checked(length)?;
                data = rest;
                Field::Bytes(value)
            }
            _ => return None,
        };
        take(key >> 3, field)?;
    }
    Some(())
}
