//! Fuzzes [`kymo_fuzz::engine_ops`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::engine_ops(data));
