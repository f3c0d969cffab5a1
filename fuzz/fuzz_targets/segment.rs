//! Fuzzes [`kymo_fuzz::segment`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::segment(data));
