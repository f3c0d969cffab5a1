//! Fuzzes [`kymo_fuzz::canary`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::canary(data));
