//! See `kittiwake_apiserver::fuzzing::server_side_apply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_apiserver::fuzzing::server_side_apply(bytes));
