//! The name of a model on the Hub.

#![no_main]

use fgvr_encoder::{HubReference, Source};

libfuzzer_sys::fuzz_target!(|input: &str| {
    fgvr_fuzz::bounded(input.as_bytes(), |_| {
        if let Ok(reference) = input.parse::<HubReference>() {
            // What is shown is read as the same.
            assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
            for part in [&reference.file, &reference.revision].into_iter().flatten() {
                assert!(
                    part.split('/')
                        .all(|segment| segment != ".." && !segment.is_empty())
                );
            }
        }
        if let Ok(source) = input.parse::<Source>() {
            let shown = source.to_string();
            assert_eq!(shown.parse::<Source>().ok(), Some(source));
        }
    });
});
