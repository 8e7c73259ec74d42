//! TFRecord framing: length (u64 le), masked CRC of the length, data, masked CRC of the data.

/// A record's CRC-32C, rotated and shifted so that the CRC of data that holds CRCs stays sound.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// `data` as one record.
pub(super) fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Record<'a> {
    /// A whole record, and how many bytes it takes with its frame.
    Whole(&'a [u8], usize),
    /// The bytes end within a record, or there are none.
    Torn,
    /// A checksum does not fit.
    Damaged(&'static str),
}

/// Reads the record at the beginning of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Record<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Record::Torn;
    };
    let Some((crc, rest)) = rest.split_first_chunk::<4>() else {
        return Record::Torn;
    };
    if u32::from_le_bytes(*crc) != masked_crc(length) {
        return Record::Damaged("the checksum of the length does not fit");
    }
    let Ok(length) = usize::try_from(u64::from_le_bytes(*length)) else {
        return Record::Torn;
    };
    let Some((data, rest)) = rest.split_at_checked(length) else {
        return Record::Torn;
    };
    let Some((crc, _)) = rest.split_first_chunk::<4>() else {
        return Record::Torn;
    };
    if u32::from_le_bytes(*crc) != masked_crc(data) {
        return Record::Damaged("the checksum of the data does not fit");
    }
    Record::Whole(data, length + 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_checksum_is_the_one_of_the_format() {
        // The check value 0xe3069283 of CRC-32C, masked by TensorBoard's Python package 2.21.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn a_record_reads_back_and_a_torn_or_damaged_one_is_told_apart() {
        let record = frame(b"abc");
        assert_eq!(parse(&record), Record::Whole(b"abc", 19));
        for end in 0..record.len() {
            assert_eq!(parse(&record[..end]), Record::Torn, "{end} bytes");
        }
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 1;
            assert!(matches!(parse(&damaged), Record::Damaged(_)), "byte {at}");
        }
    }
}
