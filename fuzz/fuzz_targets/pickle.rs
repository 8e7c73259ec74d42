//! The pickle of a file of `torch.save`: the input is the pickle, the zip around it is right.

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
});
