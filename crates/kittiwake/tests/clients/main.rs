//! Clients that nobody here wrote, each through a whole session: kubectl in three versions, kn, client-go's informers,
//! kube-rs, and Kubernetes' Python client. `tests/tools/install` installs them. In CI a client that is missing is a
//! failure; elsewhere the test says that it did nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod flow;
mod informer;
mod kn;
mod kube_rs;
mod kubectl;
mod program;
mod python;
