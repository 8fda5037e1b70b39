//! The gateway over real sockets, with a function that the tests script.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

mod acme;
mod activating;
mod clients;
mod doors;
mod ending;
mod grpc;
mod h2spec;
mod joined;
mod observing;
mod passing_on;
mod request_log;
mod routing;
mod secure;
mod slow;
mod streaming;
mod support;
mod switching;
mod tool;
mod upgrading;
