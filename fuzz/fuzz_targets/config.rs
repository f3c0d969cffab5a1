//! Fuzzes [`kymo_fuzz::config`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::config(data));
