//! See `kittiwake_apiserver::fuzzing::continue_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_apiserver::fuzzing::continue_token(bytes));
