//! Fuzzes [`kymo_fuzz::ccms_parquet`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::ccms_parquet(data));
