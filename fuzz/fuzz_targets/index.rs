//! The index of weights cut into shards.

#![no_main]

use std::path::Path;

use fgvr_encoder::weights::ShardIndex;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fgvr_fuzz::bounded(input, |input| {
        let Ok(index) = ShardIndex::parse(Path::new("model.safetensors.index.json"), input) else {
            return;
        };
        for file in index.files() {
            // Whatever the index says, a shard lies in the folder of the index.
            let path = Path::new("folder").join(file);
            assert_eq!(path.parent(), Some(Path::new("folder")), "{file:?}");
            assert_eq!(path.components().count(), 2, "{file:?}");
        }
    });
});
