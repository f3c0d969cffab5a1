//! Fuzzes [`kymo_fuzz::decode`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::decode(data));
