//! Seeds of the fuzz targets, taken from the golden transcripts.

use crate::transcript::{bytes, fill, folder, parse};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Longest seed, in bytes: longer ones only slow the fuzzer down.
const SEED_BYTES_MAX: usize = 4096;

/// The seeds of every target.
fn seeds() -> BTreeMap<&'static str, BTreeSet<Vec<u8>>> {
    let mut seeds: BTreeMap<&'static str, BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut add = |target, seed: &[u8]| {
        if !seed.is_empty() && seed.len() <= SEED_BYTES_MAX {
            seeds.entry(target).or_default().insert(seed.to_vec());
        }
    };
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "http"));
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let steps = parse(&text)
            .into_iter()
            .flat_map(|conversation| conversation.steps);
        for step in steps.filter(|step| !step.path.contains(" * ")) {
            let (path, query) = step.path.split_once('?').unwrap_or((&step.path, ""));
            add("path", path.as_bytes());
            add("query", query.replace(' ', "%20").as_bytes());
            for (target, key) in [
                ("label_selector", "labelSelector="),
                ("field_selector", "fieldSelector="),
                ("continue_token", "continue="),
            ] {
                let value = query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix(key))
                    .unwrap_or_default();
                add(target, value.replace("%3E", ">").as_bytes());
            }
            let header = |name: &str| {
                step.headers
                    .iter()
                    .find(|(n, _)| n == name)
                    .map_or("", |(_, value)| value)
            };
            add("headers", header("Accept").as_bytes());
            add("headers", header("Content-Type").as_bytes());
            let body = bytes(&fill_loosely(&step.body));
            let target = match header("Content-Type") {
                "application/vnd.kubernetes.protobuf" => "protobuf",
                "application/json-patch+json" => "json_patch",
                "application/merge-patch+json" => "merge_patch",
                "application/strategic-merge-patch+json" => "strategic_patch",
                "application/apply-patch+yaml" => "server_side_apply",
                _ => "body",
            };
            add(target, &body);
            if path.contains("serving.knative.dev") && step.method == "POST" {
                add("admission", &body);
            }
        }
    }
    for path in [
        ".metadata.labels.tier",
        "{.status.conditions[?(@.type==\"Ready\")].status}",
        ".status.list[-1][*].a",
        "$['metadata']['labels']",
    ] {
        add("json_path", path.as_bytes());
    }
    for fields in [
        r#"{"f:data":{".":{},"f:x":{}},"f:list":{"k:{\"a\":1}":{},"v:\"x\"":{},"i:0":{}}}"#,
        r#"[{"manager":"m","operation":"Apply","apiVersion":"v1","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:x":{}}}}]"#,
        "[{}]",
    ] {
        add("managed_fields", fields.as_bytes());
    }
    // {"v":"kittiwake.dev/v1","c":["configmaps","default"],"s":7,"a":["default","a"]}
    add("continue_token", b"eyJ2Ijoia2l0dGl3YWtlLmRldi92MSIsImMiOlsiY29uZmlnbWFwcyIsImRlZmF1bHQiXSwicyI6NywiYSI6WyJkZWZhdWx0IiwiYSJdfQ");
    for (target, texts) in [
        ("quantity", ["100m", "1.5Gi", "-2e3", "1E", "+.5k"]),
        (
            "duration",
            ["1h2m3.5s", "-1.5h", "0", "100us", "9223372036854775807ns"],
        ),
        (
            "image",
            [
                "ghcr.io/a/b:v1",
                "a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "localhost:5000/a",
                "file:///a.wasm",
                "oci-layout:///a",
            ],
        ),
    ] {
        texts.iter().for_each(|text| add(target, text.as_bytes()));
    }
    seeds
}

/// A body with any word for what a conversation remembers.
fn fill_loosely(body: &str) -> String {
    let mut names = BTreeMap::new();
    let words = body
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}").map(|(word, _)| word));
    names.extend(words.map(|word| (word.to_owned(), "1".to_owned())));
    fill(body, &names)
}

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

#[test]
#[ignore = "writes fuzz/corpus; run it after changing transcripts"]
fn write_seeds() {
    for (target, seeds) in seeds() {
        let folder = corpus().join(target);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (index, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("{index:03}")), seed).unwrap();
        }
    }
}

#[test]
fn every_fuzz_target_has_seeds() {
    let targets = corpus().join("../fuzz_targets");
    for entry in std::fs::read_dir(targets).unwrap() {
        let name = entry
            .unwrap()
            .path()
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let seeds = std::fs::read_dir(corpus().join(&name)).map_or(0, Iterator::count);
        assert!(seeds > 0, "fuzz/corpus/{name} is empty; run write_seeds");
    }
}
