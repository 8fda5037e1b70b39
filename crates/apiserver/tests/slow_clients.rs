//! Clients that watch and do not read: they cost little memory, hold nobody up, and are told that they missed something
//! when they read again. A program of its own, because it looks at the memory of its process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::{Request, StatusCode};
use kittiwake_apiserver::{Config, Handle, Inputs, build};
use kittiwake_core::clock::{Clock, SystemClock};
use kittiwake_core::log::LogHub;
use kittiwake_store::ObjectStore;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Clients that do not read.
const CLIENTS: usize = 1000;
/// Changes that they miss.
const CHANGES: usize = 3000;
/// Size of each changed object, in bytes.
const OBJECT_BYTES: usize = 20_000;
/// Changes that the server remembers.
const HISTORY: usize = 100;
/// What all of this may add to the process, in MiB. Sent to every client it would be 56 GiB; as what 64 remembered
/// events for each client hold, 1.2 GiB.
const GROWTH_MIB_MAX: usize = 256;

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

async fn send(handle: &Handle, method: &str, path: &str, body: Value) -> StatusCode {
    let content_type = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type);
    let request = request.body(Body::from(body.to_string())).unwrap();
    handle.router().oneshot(request).await.unwrap().status()
}

async fn watch(handle: &Handle) -> BodyDataStream {
    let request = Request::get(format!("{MAPS}?watch=true"))
        .body(Body::empty())
        .unwrap();
    let response = handle.router().oneshot(request).await.unwrap();
    response.into_body().into_data_stream()
}

async fn next(stream: &mut BodyDataStream) -> Option<Value> {
    let chunk = stream.next().await?.unwrap();
    Some(serde_json::from_slice(&chunk).unwrap())
}

#[tokio::test]
async fn a_thousand_clients_that_do_not_read() {
    let store = ObjectStore::in_memory(kittiwake_store::Config {
        events_kept: HISTORY,
        ..kittiwake_store::Config::default()
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let inputs = Inputs {
        store,
        crds: Vec::new(),
        clock: Arc::clone(&clock),
        logs: Arc::new(LogHub::new(clock)),
        instances: Arc::default(),
    };
    let (handle, task) = build(Config::default(), inputs).unwrap();
    tokio::spawn(task);
    handle.started().await;
    let object =
        |n: usize| json!({"metadata": {"name": "big"}, "data": {"x": format!("{n:0OBJECT_BYTES$}")}});
    assert_eq!(send(&handle, "POST", MAPS, object(0)).await, 201);

    let before = resident_mib();
    let mut clients = Vec::new();
    for n in 1..=CHANGES {
        // They come one after the other, so that each stops at another place; each reads what is there and one change.
        if n % (CHANGES / CLIENTS) == 0 {
            let mut client = watch(&handle).await;
            assert_eq!(next(&mut client).await.unwrap()["type"], "ADDED");
            clients.push(client);
        }
        assert_eq!(
            send(&handle, "PATCH", &format!("{MAPS}/big"), object(n)).await,
            200
        );
        if n % 100 == 0 {
            for client in clients.iter_mut().rev().take(100 * CLIENTS / CHANGES) {
                assert_eq!(next(client).await.unwrap()["type"], "MODIFIED");
            }
        }
    }
    assert_eq!(clients.len(), CLIENTS);
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < GROWTH_MIB_MAX, "{CLIENTS} clients hold {grown} MiB");

    // One that reads on gets what it had begun to take, and then the news that it must list again.
    let mut late = clients.swap_remove(0);
    let last = loop {
        let event = next(&mut late).await.expect("an error comes before the end");
        if event["type"] != "MODIFIED" {
            break event;
        }
    };
    assert_eq!(
        (&last["type"], &last["object"]["code"], &last["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(next(&mut late).await.is_none(), "nothing follows");
}
