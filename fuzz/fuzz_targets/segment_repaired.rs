//! Fuzzes [`kymo_fuzz::segment_repaired`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::segment_repaired(data));
