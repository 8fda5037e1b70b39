//! See `kittiwake_apiserver::fuzzing::label_selector`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_apiserver::fuzzing::label_selector(bytes));
