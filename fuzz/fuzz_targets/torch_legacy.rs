//! A file that `torch.save` wrote before version 1.6.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fgvr_fuzz::bounded(input, fgvr_fuzz::open));
