//! Fuzzes [`kymo_fuzz::http_write`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::http_write(data));
