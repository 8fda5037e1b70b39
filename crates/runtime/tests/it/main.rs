//! The runtime through its public face: artifacts from every source, calls under every limit.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail as tests do; clippy only knows the test functions themselves"
)]

mod cache;
mod command;
mod folders;
mod invoke;
mod local;
mod outbound;
mod probe;
mod registry;
mod server;
mod server_component;
mod service;
mod sidecar;
mod std_net;
mod support;
mod turns;

/// As the platform has it; `tests/components` has the same tests without.
const CORE_MODULES: bool = true;
