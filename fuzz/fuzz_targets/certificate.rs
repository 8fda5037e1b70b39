//! See `kittiwake_gateway::fuzzing::certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_gateway::fuzzing::certificate(bytes));
