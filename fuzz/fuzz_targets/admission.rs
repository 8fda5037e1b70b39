//! See `kittiwake_api::fuzzing::admission`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_api::fuzzing::admission(bytes));
