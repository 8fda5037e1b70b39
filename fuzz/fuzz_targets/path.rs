//! See `kittiwake_apiserver::fuzzing::path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_apiserver::fuzzing::path(bytes));
