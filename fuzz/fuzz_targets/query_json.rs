//! Fuzzes [`kymo_fuzz::query_json`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::query_json(data));
