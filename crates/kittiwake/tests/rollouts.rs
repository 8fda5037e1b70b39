//! Traffic moves while calls come: no call is lost, and each is answered by one of the revisions that had traffic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use http::Method;
use kittiwake_testkit::guest;
use kittiwake_testkit::http::{request, send};
use kittiwake_testkit::platform::TestPlatform;
use serde_json::Value;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// New revisions; each comes with a split, another split with tags, and a way back: 100 changes in all.
const REVISIONS: usize = 25;
/// Callers at a time.
const CALLERS: usize = 4;

/// Revision, percent, tag.
type Share = (String, u32, &'static str);

fn yaml(image: &str, revision: usize, shares: &[Share]) -> String {
    let mut text = format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: hello\nspec:\n  template:\n    metadata:\n      \
         name: hello-r{revision}\n    spec:\n      containers:\n        - image: {image}\n          env:\n            - name: REVISION\n              \
         value: r{revision}\n  traffic:\n"
    );
    for (name, percent, tag) in shares {
        let _ = writeln!(text, "    - revisionName: {name}\n      percent: {percent}");
        if !tag.is_empty() {
            let _ = writeln!(text, "      tag: {tag}");
        }
    }
    text
}

/// Revisions with their shares, as the status says.
fn split(object: &Value) -> Vec<(String, u64)> {
    let traffic = object["status"]["traffic"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let share = |target: &Value| {
        let name = target["revisionName"].as_str().unwrap_or_default().to_owned();
        (name, target["percent"].as_u64().unwrap_or_default())
    };
    traffic.iter().map(share).collect()
}

async fn call_until(stop: Arc<AtomicBool>, gateway: SocketAddr, calls: Arc<AtomicUsize>) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let asked = request(Method::GET, "hello.default.localhost", "/", "");
        match send(gateway, asked).await {
            Ok(answer) if answer.status == 200 && answer.text().contains("REVISION=r") => {}
            Ok(answer) => failures.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => failures.push(error.to_string()),
        }
        calls.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_rollouts_and_rollbacks_lose_no_call() {
    let platform = TestPlatform::start().await.unwrap();
    let image = platform.image("env.wasm", &guest::env()).unwrap();
    let name = |revision: usize| format!("hello-r{revision}");
    let first = yaml(&image, 0, &[(name(0), 100, "")]);
    platform.deploy_yaml("hello", &first).await.unwrap();
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            tokio::spawn(call_until(
                Arc::clone(&stop),
                platform.gateway(),
                Arc::clone(&calls),
            ))
        })
        .collect();
    for revision in 1..=REVISIONS {
        let (old, new) = (name(revision - 1), name(revision));
        for shares in [
            vec![(new.clone(), 100, "")],
            vec![(old.clone(), 50, ""), (new.clone(), 50, "next")],
            vec![(old.clone(), 90, "current"), (new.clone(), 10, "candidate")],
            vec![(old.clone(), 100, "")],
        ] {
            platform.apply(&yaml(&image, revision, &shares)).await.unwrap();
            let wanted: Vec<_> = shares
                .iter()
                .map(|(name, percent, _)| (name.clone(), u64::from(*percent)))
                .collect();
            let moved = |object: &Value| {
                let ready = object["status"]["conditions"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True");
                ready
                    && object["status"]["observedGeneration"] == object["metadata"]["generation"]
                    && split(object) == wanted
            };
            platform.until("services/hello", moved).await.unwrap();
            for (_, _, tag) in shares.iter().filter(|(_, _, tag)| !tag.is_empty()) {
                let host = format!("{tag}-hello.default.localhost");
                assert_eq!(platform.get(&host, "/").await.unwrap().status, 200, "{host}");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for caller in callers {
        failures.extend(caller.await.unwrap());
    }
    assert_eq!(failures, [""; 0]);
    assert!(
        calls.load(Ordering::Relaxed) > REVISIONS,
        "there was load all the time"
    );
}
