//! See `kittiwake_autoscaler::simulation::input::read`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = kittiwake_autoscaler::simulation::input::read(bytes);
});
