//! Fuzzes [`kymo_fuzz::replay_mutated`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kymo_fuzz::replay_mutated(data));
