//! MATLAB's files, as lists of known data sets have them.

#![no_main]

use std::path::Path;

use fgvr_data::sets::mat::{Array, parse_within};

/// What compressed parts may have once inflated: little enough that the bound on memory holds for them too.
const INFLATED: u64 = 256 << 10;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    fgvr_fuzz::bounded(input, |input| {
        match parse_within(Path::new("a.mat"), input, INFLATED) {
            Ok(variables) => variables.iter().for_each(|variable| check(&variable.value)),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1),
        }
    });
});

/// Structures have a value of each field.
fn check(array: &Array) {
    match array {
        Array::Cells(cells) => cells.iter().for_each(check),
        Array::Structures(all) => {
            assert_eq!(all.values.len(), all.count * all.fields.len());
            all.values.iter().for_each(check);
        }
        Array::Numbers(_) | Array::Text(_) | Array::Other => {}
    }
}
