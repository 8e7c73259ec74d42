//! The pickle of a file of `torch.save`: the input is the pickle, and what is around it is right, in the
//! zip archive of today and in the format of before version 1.6.

#![no_main]

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [
        ("archive/data.pkl", input),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &[0; 64]),
        ("archive/data/1", &[0x3c; 256]),
    ] {
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(name, options).expect("a zip in memory");
        zip.write_all(bytes).expect("a zip in memory");
    }
    let file = zip.finish().expect("a zip in memory").into_inner();
    fgvr_fuzz::bounded(&file, fgvr_fuzz::open);
    fgvr_fuzz::bounded(&legacy(input), fgvr_fuzz::open);
});

/// The magic number, the version and a dictionary about the machine before `object`; the keys of two
/// storages and their values, 16 and 64 of f32, behind it.
fn legacy(object: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.");
    file.extend(b"\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s.");
    file.extend(object);
    file.extend(b"\x80\x02](X\x01\0\0\x000X\x01\0\0\x001e.");
    for (count, byte) in [(16u64, 0), (64, 0x3c)] {
        file.extend(count.to_le_bytes());
        file.resize(file.len() + 4 * count as usize, byte);
    }
    file
}
