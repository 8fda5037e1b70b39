//! A platform with several workers in a test, and those who call it.

#![allow(dead_code, reason = "no test file uses all of it")]

use crate::program::{PATIENCE, Up};
use http::Method;
use kittiwake_testkit::http::{request, send};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Pause between two looks at something that is to become true.
const GLANCE: Duration = Duration::from_millis(20);

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: never");
        std::thread::sleep(GLANCE);
    }
}

/// A platform with so many workers, each started and taking calls.
pub fn start(count: usize) -> Up {
    let up = Up::start(&["--workers", &count.to_string()]);
    until_all_take_calls(&up, count);
    // A spare that is just starting has no name of its own yet.
    until("there are no others", || workers(&up).len() == count);
    up
}

pub fn until_all_take_calls(up: &Up, count: usize) {
    let all = format!("\nkittiwake_workers_ready {count}\n");
    until("all workers take calls", || up.metrics().contains(&all));
}

/// The workers of a running platform, by process id. The spare, which waits to take a dead one's place, has another name.
pub fn workers(up: &Up) -> BTreeSet<u32> {
    let listed = Command::new("pgrep")
        .args(["-x", "kittiwake", "-P", &up.child.id().to_string()])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

pub fn kill(signal: &str, process: u32) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status();
    assert!(sent.unwrap().success());
}

pub fn gateway(up: &Up) -> SocketAddr {
    up.address("Functions").parse().unwrap()
}

/// Status and text of one call over a connection of its own.
pub async fn call(gateway: SocketAddr, name: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let host = format!("{name}.default.localhost");
    let answer = send(gateway, request(Method::GET, &host, path, "")).await?;
    Ok((answer.status.as_u16(), answer.text()))
}

/// Calls without a pause, each over a connection of its own, while `meanwhile` runs; returns how many were answered.
/// Every one has to be answered well.
pub fn under_load(up: &Up, name: &'static str, path: &'static str, meanwhile: impl FnOnce()) -> usize {
    let (gateway, ended, answered) = (
        gateway(up),
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let runtime = runtime();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (ended, answered) = (Arc::clone(&ended), Arc::clone(&answered));
            runtime.spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let (status, text) = call(gateway, name, path).await.unwrap();
                    assert_eq!(status, 200, "{text}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    meanwhile();
    let before = answered.load(Ordering::Relaxed);
    until("more calls are answered", || {
        answered.load(Ordering::Relaxed) > before + 20
    });
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        runtime.block_on(caller).unwrap();
    }
    answered.load(Ordering::Relaxed)
}
