//! See `kittiwake_apiserver::fuzzing::protobuf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kittiwake_apiserver::fuzzing::protobuf(bytes));
