//! The API as clients see it: through `kube::Client` in process, and request by request.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod harness;

mod authentication;
mod authorization;
mod constraint_kinds;
mod coverage;
mod discovery;
mod endpoints;
mod large;
mod lifecycle;
mod model;
mod oidc;
mod pods;
mod reading;
mod refusals;
mod scaled;
mod seeds;
mod transcript;
mod transcripts;
mod typed_client;
mod watching;
mod writing;
