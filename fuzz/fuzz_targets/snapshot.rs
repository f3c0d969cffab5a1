//! Fuzzes [`kymo_fuzz::snapshot`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::snapshot(data));
