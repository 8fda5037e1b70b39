//! See `kittiwake_apiserver::fuzzing::managed_fields`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_apiserver::fuzzing::managed_fields(bytes));
