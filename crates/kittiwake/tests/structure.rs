//! The shape of the workspace: which crate may use which (ARCHITECTURE.md), and that every error code has its page.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use kittiwake_core::code::ErrorCode;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crate → what it may use of ours, in this order of layers: words, engines, services, binary.
const EDGES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("api", &["core"]),
    ("store", &["core"]),
    ("autoscaler", &["core"]),
    ("runtime", &["core"]),
    ("apiserver", &["api", "store", "core"]),
    ("controllers", &["api", "autoscaler", "core"]),
    ("gateway", &["core"]),
    (
        "kittiwake",
        &[
            "api",
            "apiserver",
            "autoscaler",
            "controllers",
            "core",
            "gateway",
            "runtime",
            "store",
        ],
    ),
    ("testkit", &["api", "core", "kittiwake"]),
    (
        "benches",
        &[
            "api",
            "apiserver",
            "core",
            "kittiwake",
            "runtime",
            "store",
            "testkit",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn short(name: &str) -> &str {
    name.strip_prefix("kittiwake-").unwrap_or(name)
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Our own crates that a package depends on at run time (not for its tests).
fn own_dependencies(package: &Value) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    dependencies
        .filter(|dependency| dependency["kind"].is_null())
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|name| name.starts_with("kittiwake"))
        .map(|name| short(name).to_owned())
        .collect()
}

#[test]
fn crates_use_only_what_their_layer_allows() {
    for package in packages() {
        let name = short(package["name"].as_str().unwrap()).to_owned();
        let Some((_, allowed)) = EDGES.iter().find(|(crate_name, _)| *crate_name == name) else {
            panic!("crate {name} is not in the table of edges; add it there and to ARCHITECTURE.md");
        };
        for used in own_dependencies(&package) {
            assert!(
                allowed.contains(&used.as_str()),
                "{name} must not use {used}: it may use {allowed:?}"
            );
        }
    }
}

#[test]
fn kubernetes_and_wasm_stay_where_they_belong() {
    for package in packages() {
        let name = short(package["name"].as_str().unwrap()).to_owned();
        for dependency in package["dependencies"].as_array().unwrap() {
            if !dependency["kind"].is_null() {
                continue;
            }
            let used = dependency["name"].as_str().unwrap();
            let allowed: &[&str] = match used {
                "kube" | "k8s-openapi" => &["api", "apiserver", "controllers", "kittiwake", "testkit"],
                "wasmtime" | "wasmtime-wasi" | "wasmtime-wasi-http" => &["runtime"],
                "redb" => &["store"],
                _ => continue,
            };
            assert!(
                allowed.contains(&name.as_str()),
                "{name} must not use {used}; only {allowed:?} may"
            );
        }
    }
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let folder = root().join("docs/errors");
    let mut pages: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    for code in ErrorCode::ALL {
        assert!(pages.remove(code.as_str()), "docs/errors/{code}.md is missing");
    }
    assert!(pages.is_empty(), "pages without a code: {pages:?}");
}

#[test]
fn every_source_file_says_what_it_is() {
    fn visit(folder: &Path, wrong: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, wrong);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                if !text.starts_with("//!") || path.file_name().is_some_and(|name| name == "mod.rs") {
                    wrong.push(path);
                }
            }
        }
    }
    let mut wrong = Vec::new();
    visit(&root().join("crates"), &mut wrong);
    assert!(
        wrong.is_empty(),
        "files without a `//!` line first, or named mod.rs: {wrong:?}"
    );
}
