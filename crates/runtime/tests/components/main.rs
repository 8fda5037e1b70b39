//! The tests of calls, folders and outbound requests with components that are run as what they are, where `tests/it` runs
//! their core modules alone. Both ways have to behave alike.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail as tests do; clippy only knows the test functions themselves"
)]
#![allow(dead_code, reason = "some helpers are for other tests")]

#[path = "../it/folders.rs"]
mod folders;
#[path = "../it/invoke.rs"]
mod invoke;
#[path = "../it/outbound.rs"]
mod outbound;
#[path = "../it/support.rs"]
mod support;

/// What `tests/it` has otherwise.
const CORE_MODULES: bool = false;
