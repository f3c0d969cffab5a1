//! Fuzzes [`kymo_fuzz::manifest_repaired`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::manifest_repaired(data));
