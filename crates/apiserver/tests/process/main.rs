//! The API server as a process of its own: killed at any moment, on a full disk, backed up while it runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod child;

mod backup;
mod crash;
mod full_disk;
