//! The lists of known data sets: the first byte says which set, the rest is its files, each a name, a line end, its
//! text and a zero byte.

#![no_main]

use std::collections::BTreeMap;

use fgvr_data::sets::{Level, SetKind, parse_xml, read_lists};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    let set = SetKind::ALL[usize::from(*first) % SetKind::ALL.len()];
    let mut files = BTreeMap::new();
    for file in rest.split(|byte| *byte == 0) {
        let end = file
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(file.len());
        let name = String::from_utf8_lossy(&file[..end]).into_owned();
        files.insert(name, file[(end + 1).min(file.len())..].to_vec());
    }
    match read_lists(set, &files, Level::Variant) {
        Ok(index) => {
            assert!(index.images()[0] > 0);
            for (path, label) in index.paths() {
                assert!(
                    path.split('/').all(|name| !matches!(name, "" | "." | "..")),
                    "{path:?}"
                );
                assert!(label.is_none_or(|label| (label as usize) < index.classes().len()));
            }
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
    if let Ok(text) = std::str::from_utf8(rest) {
        for counts_from_one in [false, true] {
            if let Ok((bounds, _)) = parse_xml("a.xml".as_ref(), text, counts_from_one) {
                assert!(bounds.right > bounds.left && bounds.bottom > bounds.top);
            }
        }
    }
});
