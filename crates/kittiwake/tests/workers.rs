//! `kittiwake up --workers N`: what a user of it, and someone who kills its processes, gets to see.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/program.rs"]
mod program;
#[path = "support/workers.rs"]
mod workers;

use kittiwake_testkit::guest;
use kittiwake_testkit::platform::service;
use program::{Up, kittiwake};
use workers::{call, gateway, kill, runtime, start, under_load, until, workers};

/// Deploys a guest and waits until it is ready.
fn deploy(up: &Up, name: &str, wasm: &[u8]) {
    let path = up.folder.path().join(format!("{name}.wasm"));
    std::fs::write(&path, wasm).unwrap();
    let manifest = up.folder.path().join(format!("{name}.yaml"));
    std::fs::write(
        &manifest,
        service(name, &format!("file://{}", path.display()), ""),
    )
    .unwrap();
    up.ok(&["apply", "-f", &manifest.display().to_string()]);
}

#[test]
fn a_function_that_is_ready_is_so_on_every_worker() {
    let up = start(3);
    assert_eq!(workers(&up).len(), 3);
    let runtime = runtime();
    for round in 0..3 {
        let name = format!("hello-{round}");
        deploy(&up, &name, &guest::hello());
        for _ in 0..30 {
            let (status, text) = runtime.block_on(call(gateway(&up), &name, "/")).unwrap();
            assert_eq!((status, text.as_str()), (200, "Hello from WebAssembly!\n"));
        }
    }
    let page = up.metrics();
    for worker in 0..3 {
        assert!(
            page.contains(&format!("revision_request_count{{worker=\"{worker}\",")),
            "no call went to worker {worker}:\n{page}"
        );
    }
    assert!(page.contains("\nkittiwake_workers_ready 3\n"));
    assert_eq!(page.matches("# TYPE revision_request_count counter").count(), 1);

    // What a function writes and how it fails is seen in one place, whichever worker it was.
    deploy(&up, "lines", &guest::lines());
    deploy(&up, "fussy", &guest::trap_once_told());
    runtime.block_on(call(gateway(&up), "lines", "/")).unwrap();
    until("the lines are in the log", || {
        up.ok(&["logs", "lines"]).contains("unfinished")
    });
    let failed = up.client(&["invoke", "fussy", "--data", "x"]);
    assert!(!failed.status.success());
    until("the owner sees the trap", || {
        up.ok(&["describe", "revision", "fussy-00001"])
            .contains("unreachable")
    });
}

#[test]
fn a_killed_worker_is_replaced_and_no_connection_is_refused() {
    let up = start(2);
    deploy(&up, "hello", &guest::hello());
    deploy(&up, "asleep", &guest::asleep());
    let before = workers(&up);
    let gateway = gateway(&up);
    // One call that is in flight on each worker, or on both sides of the hash at least.
    let runtime = runtime();
    let in_flight: Vec<_> = (0..16)
        .map(|_| runtime.spawn(call(gateway, "asleep", "/")))
        .collect();
    until("all are in flight", || {
        let page = up.metrics();
        let counts = page
            .lines()
            .filter(|line| line.starts_with("kittiwake_gateway_in_flight{"));
        counts
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
            .sum::<usize>()
            == 16
    });
    let victim = *before.first().unwrap();
    kill("-KILL", victim);
    until("another took its place", || {
        let now = workers(&up);
        now.len() == 2 && !now.contains(&victim)
    });
    until("it takes calls", || {
        up.metrics().contains("\nkittiwake_workers_ready 2\n")
    });
    assert!(up.metrics().contains("\nkittiwake_worker_restarts_total 1\n"));
    let failed = in_flight.iter().filter(|call| call.is_finished()).count();
    assert!(failed < 16, "the calls of the other worker go on");
    for call in in_flight {
        call.abort();
    }
    for _ in 0..50 {
        assert_eq!(runtime.block_on(call(gateway, "hello", "/")).unwrap().0, 200);
    }
}

#[test]
fn it_goes_over_to_the_program_on_disk_without_losing_a_call() {
    let up = start(2);
    deploy(&up, "hello", &guest::hello());
    let before = workers(&up);
    let answered = under_load(&up, "hello", "/", || {
        up.signal("-USR2");
        up.read_until("All workers have been replaced");
        until("the old workers have ended", || workers(&up).is_disjoint(&before));
    });
    assert!(answered > 20);
    until("there are two new ones", || workers(&up).len() == 2);
    // It is the same process, with the same state and the same ports.
    deploy(&up, "another", &guest::hello());
    assert_eq!(
        runtime().block_on(call(gateway(&up), "another", "/")).unwrap().0,
        200
    );
    let left = workers(&up);
    up.signal("-INT");
    up.read_until("Stopping");
    until("all workers have ended", || {
        left.iter()
            .all(|id| !std::path::Path::new(&format!("/proc/{id}")).exists())
    });
}

#[test]
fn workers_end_with_a_supervisor_that_was_killed() {
    let up = start(2);
    let left = workers(&up);
    up.signal("-KILL");
    until("they have ended", || {
        left.iter()
            .all(|id| !std::path::Path::new(&format!("/proc/{id}")).exists())
    });
}

#[test]
fn mistakes_are_explained() {
    let by_hand = kittiwake()
        .arg("worker")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&by_hand.stderr);
    assert!(
        !by_hand.status.success() && text.contains("kittiwake up --workers N"),
        "{text}"
    );
    let too_many = kittiwake().args(["up", "--workers", "1000"]).output().unwrap();
    let text = String::from_utf8_lossy(&too_many.stderr);
    assert!(
        !too_many.status.success() && text.contains("--workers 1000"),
        "{text}"
    );

    // Sockets that share a port must not be shared with another kittiwake.
    let up = start(2);
    let folder = tempfile::tempdir().unwrap();
    let second = kittiwake()
        .args([
            "up",
            "--workers",
            "2",
            "--api-listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(folder.path())
        .args(["--http-listen", &up.address("Functions")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && text.contains("another program listens there"),
        "{text}"
    );
}
