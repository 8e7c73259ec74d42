//! A tar shard: the input is the archive, as it is and with the checksums of all its blocks mended, without which few
//! mutations would get behind the first header.

#![no_main]

use std::io::Cursor;
use std::path::Path;

use fgvr_data::ShardIndex;

/// Bytes of a block of an archive.
const BLOCK: usize = 512;

/// Where in a header its checksum stands.
const SUM: std::ops::Range<usize> = 148..156;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fgvr_fuzz::bounded(input, index);
    let mut mended = input.to_vec();
    for header in mended.chunks_exact_mut(BLOCK) {
        if header.iter().any(|byte| *byte != 0) {
            header[SUM].fill(b' ');
            let sum: u32 = header.iter().copied().map(u32::from).sum();
            header[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    fgvr_fuzz::bounded(&mended, index);
});

/// Every image that is found lies in the archive, and no name leads out of it.
fn index(archive: &[u8]) {
    let length = archive.len() as u64;
    match ShardIndex::read(Cursor::new(archive), length, Path::new("input")) {
        Ok(index) => {
            for image in 0..index.len() {
                let (offset, size) = index.place(image).expect("a place of every image");
                assert!(offset + size <= length);
                assert!(index.name(image).split('/').all(|part| !matches!(part, "" | ".." | ".")));
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
}
