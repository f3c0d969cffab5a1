//! Fuzzes [`kymo_fuzz::snapshot_repaired`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::snapshot_repaired(data));
