//! See `kittiwake_gateway::fuzzing::request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_gateway::fuzzing::request_head(bytes));
