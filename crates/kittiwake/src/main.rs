//! The Kittiwake binary: command line, configuration, roles, wiring.
fn main() {}
