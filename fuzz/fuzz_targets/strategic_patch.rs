//! See `kittiwake_apiserver::fuzzing::strategic_patch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_apiserver::fuzzing::strategic_patch(bytes));
