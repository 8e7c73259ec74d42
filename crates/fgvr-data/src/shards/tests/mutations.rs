use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// What the fuzz target `tar_index` checks, on mutations that are the same every time: no panic, and every image that is
/// found lies inside of the archive. The checksums of headers are mended, or nothing behind them would be reached.
#[test]
fn no_mutation_of_an_archive_leads_outside_of_it() {
    let mut whole = samples(0, 3, 2);
    let long = format!("{}/x.jpg", "deep/".repeat(60));
    whole.truncate(whole.len() - 1024);
    whole.extend(archive([
        (long.as_str(), &png(1)[..]),
        ("y.cls", b"1"),
        ("y.png", b"abc"),
    ]));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..4) {
            let block = rng.random_range(0..bytes.len() / 512) * 512;
            // Names, sizes and types more often than the rest.
            let at = match rng.random_range(0..4) {
                0 => rng.random_range(124..136),
                1 => 156,
                2 => rng.random_range(0..100),
                _ => rng.random_range(0..512),
            };
            bytes[block + at] = match rng.random_range(0..3) {
                0 => b'0' + rng.random_range(0..8u8),
                1 => b"./LKxgS125 \0\xff"[rng.random_range(0..13)],
                _ => rng.next_u32() as u8,
            };
            let header = &mut bytes[block..block + 512];
            let mut mended = Header::new_old();
            mended.as_mut_bytes().copy_from_slice(header);
            mended.set_cksum();
            if rng.random_range(0..8) > 0 {
                header.copy_from_slice(mended.as_bytes());
            }
        }
        if rng.random_range(0..8) == 0 {
            bytes.truncate(rng.random_range(0..bytes.len()));
        }
        let length = bytes.len() as u64;
        match ShardIndex::read(Cursor::new(&bytes), length, Path::new("s.tar")) {
            Ok(index) => {
                read += 1;
                for image in 0..index.len() {
                    let (offset, size) = index.place(image).unwrap();
                    assert!(offset + size <= length);
                    assert!(
                        !index
                            .name(image)
                            .split('/')
                            .any(|part| matches!(part, "" | ".." | "."))
                    );
                }
            }
            Err(error) => {
                refused += 1;
                assert!(
                    error.is_bad_input() && !error.to_string().contains('\n'),
                    "{error}"
                );
            }
        }
    }
    // Both happen, or the mutations try nothing.
    assert!(
        read > 1000 && refused > 1000,
        "{read} read, {refused} refused"
    );
}
