//! See `kittiwake_apiserver::fuzzing::headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_apiserver::fuzzing::headers(bytes));
