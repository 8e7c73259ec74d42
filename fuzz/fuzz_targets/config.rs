//! timm's `config.json` and transformers' `preprocessor_config.json`.

#![no_main]

use std::path::Path;

use fgvr_encoder::weights::{Preprocessing, Resize};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fgvr_fuzz::bounded(input, |input| {
        let file = Path::new("config.json");
        check(Preprocessing::from_timm(file, input).ok().flatten());
        check(Preprocessing::from_transformers(file, input).ok());
    });
});

/// What is accepted can be computed with.
fn check(preprocessing: Option<Preprocessing>) {
    let Some(found) = preprocessing else {
        return;
    };
    assert!(found.size.iter().all(|side| (1..=8192).contains(side)));
    assert!(found.mean.iter().all(|mean| mean.is_finite()));
    assert!(found.std.iter().all(|std| std.is_finite() && *std > 0.));
    if let Resize::ShorterSide(side) = found.resize {
        assert!((1..=8192).contains(&side));
    }
}
