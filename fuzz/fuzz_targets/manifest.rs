//! Fuzzes [`kymo_fuzz::manifest`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::manifest(data));
