//! The conformance tests of Knative Serving, under their own names: each test here is named after the Go test that its
//! comment names, and checks the same on a whole platform, against the components of `guests/knative`.
//!
//! `tests/conformance` runs the Go suites themselves. These are faster, need no Go, and say more when they fail;
//! `docs/conformance.md` has both results side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod api;
mod api_errors;
mod api_limits;
mod api_traffic;
mod e2e;
mod runtime;
mod suite;

use std::process::Command;

#[test]
fn images_are_built_from_the_sources_beside_them() {
    let check = Command::new(suite::root().join("guests/knative/build.sh"))
        .arg("--check")
        .output()
        .unwrap();
    assert!(
        check.status.success(),
        "a source changed after its component was built; run guests/knative/build.sh\n{}",
        String::from_utf8_lossy(&check.stderr)
    );
}
