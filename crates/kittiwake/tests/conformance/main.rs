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
mod autoscale;
mod destroy_pod;
mod domains;
mod e2e;
mod e2e_calls;
mod e2e_told;
mod grpc;
mod multi_container;
mod routing;
mod runtime;
mod scale;
mod scaling;
mod servers;
mod suite;
mod volumes;
mod websocket;

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

/// What `docs/conformance.md` says of the tests here is true: every test that "ours" passes is here, by its Go name.
#[test]
fn the_table_knows_these_tests() {
    let folder = suite::root().join("crates/kittiwake/tests/conformance");
    let mut here = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        here += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    let table = std::fs::read_to_string(suite::root().join("docs/conformance.md")).unwrap();
    let mut passing = 0;
    for line in table.lines().filter(|line| line.starts_with("| `Test")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        for name in cells[0].split('`').filter(|part| part.starts_with("Test")) {
            let ours = here.contains(&format!("/// `{name}`"));
            let said = cells[2] == "pass";
            passing += usize::from(said);
            assert!(
                ours || !said,
                "docs/conformance.md says that {name} passes; it is not here"
            );
        }
    }
    assert!(passing > 30, "the table was not read: {passing}");
}
