//! `max-scale` below the number of workers: one instance is one instance, whichever worker the kernel gives a call to.

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
use program::{PATIENCE, Up, root};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use workers::{call, gateway, kill, runtime, start, under_load, until, until_all_take_calls, workers};

const WORKERS: usize = 3;
/// The key of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Deploys a function that may have one instance, and waits until it is ready.
fn deploy(up: &Up, name: &str, image: &str, spec: &str) {
    let manifest = up.folder.path().join(format!("{name}.yaml"));
    let yaml = format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  template:\n    metadata: \
         {{annotations: {{autoscaling.knative.dev/max-scale: '1'}}}}\n    spec: {{{spec} containers: [{{image: '{image}'}}]}}\n"
    );
    std::fs::write(&manifest, yaml).unwrap();
    up.ok(&["apply", "-f", &manifest.display().to_string()]);
}

/// The image of a guest of the tests.
fn guest_image(up: &Up, name: &str, wasm: &[u8]) -> String {
    let path = up.folder.path().join(format!("{name}.wasm"));
    std::fs::write(&path, wasm).unwrap();
    format!("file://{}", path.display())
}

/// The sum of a metric over all workers.
fn sum(up: &Up, metric: &str) -> u64 {
    let page = up.metrics();
    let series = page.lines().filter(|line| line.starts_with(metric));
    series
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// Workers tell of their instances each second.
fn until_one_pod(up: &Up, name: &str) {
    until("there is one pod", || {
        let pods = up.ok(&["get", "pods"]);
        let count = pods.matches(&format!("{name}-00001-")).count();
        assert!(count <= 1, "{pods}");
        count == 1
    });
}

/// A platform with the server `single`, which counts its calls.
fn start_with_single() -> Up {
    let up = start(WORKERS);
    let image = format!(
        "file://{}/examples/wasmedge-server/wasmedge-server.wasm",
        root().display()
    );
    deploy(&up, "single", &image, "");
    up
}

/// How often the one instance of `single` was called, as it says itself.
fn counted(text: &str) -> u64 {
    text.trim().parse().unwrap()
}

#[test]
fn a_server_has_one_instance_and_its_state_survives_all_but_its_own_workers_end() {
    let up = start_with_single();
    let (runtime, gateway) = (runtime(), gateway(&up));
    let folder = up.folder.path().join("data/workers");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("0"))), (0o700, 0o600));

    // Many at once, each over a connection of its own: one counter counts them all.
    let counts: BTreeSet<u64> = runtime.block_on(async {
        let mut calls = JoinSet::new();
        for _ in 0..60 {
            calls.spawn(async move { call(gateway, "single", "/calls").await.unwrap() });
        }
        let answers = calls.join_all().await.into_iter();
        answers
            .map(|(status, text)| {
                assert_eq!(status, 200, "{text}");
                counted(&text)
            })
            .collect()
    });
    assert_eq!(counts, (1..=60).collect());
    assert!(sum(&up, "kittiwake_gateway_passed_on_total{") > 0);
    until_one_pod(&up, "single");

    // Only the end of one worker, its owner, costs the instance its state; calls go on with each.
    let (mut last, mut begun_anew) = (60, 0);
    let mut note = |text: &str| {
        let now = counted(text);
        if now == 1 {
            begun_anew += 1;
        } else {
            assert_eq!(now, last + 1, "another instance answers");
        }
        last = now;
    };
    for victim in workers(&up) {
        kill("-KILL", victim);
        // What the system had given to that worker, or was sent to it a moment before it ended, may be lost.
        while workers(&up).contains(&victim) || workers(&up).len() < WORKERS {
            if let Ok((status, text)) = runtime.block_on(call(gateway, "single", "/calls")) {
                match status {
                    200 => note(&text),
                    _ => assert_eq!(status, 502, "{text}"),
                }
            }
        }
        until_all_take_calls(&up, WORKERS);
        for _ in 0..12 {
            let (status, text) = runtime.block_on(call(gateway, "single", "/calls")).unwrap();
            assert_eq!(status, 200, "{text}");
            note(&text);
        }
    }
    assert_eq!(begun_anew, 1);
}

#[test]
fn another_program_takes_over_without_losing_a_call() {
    let up = start_with_single();
    let (runtime, gateway) = (runtime(), gateway(&up));
    under_load(&up, "single", "/calls", || {
        let before = workers(&up);
        up.signal("-USR2");
        up.read_until("All workers have been replaced");
        until("the old workers have ended", || workers(&up).is_disjoint(&before));
    });
    // What was of the old instance is gone with it; there is one again.
    until_one_pod(&up, "single");
    let count = || {
        let (status, text) = runtime.block_on(call(gateway, "single", "/calls")).unwrap();
        assert_eq!(status, 200, "{text}");
        counted(&text)
    };
    let first = count();
    assert!((1..=20).all(|more| count() == first + more));
}

#[test]
fn calls_of_a_function_are_bounded_over_all_workers() {
    let up = start(WORKERS);
    let image = guest_image(&up, "asleep", &guest::asleep());
    deploy(&up, "asleep", &image, "containerConcurrency: 1,");
    let image = guest_image(&up, "delayed", &guest::delayed());
    deploy(&up, "delayed", &image, "containerConcurrency: 1,");
    let (runtime, gateway) = (runtime(), gateway(&up));

    // One sleeps for an hour; all others wait for it, whichever worker they came to.
    let sleeping: Vec<_> = (0..12)
        .map(|_| runtime.spawn(async move { call(gateway, "asleep", "/").await }))
        .collect();
    let depth = "revision_queue_depth{";
    until("all are there", || sum(&up, depth) == 12);
    until("all that were passed on are with the owner", || {
        sum(&up, "kittiwake_gateway_in_flight{") == 12 + sum(&up, "kittiwake_gateway_passed_on_total{")
    });
    assert_eq!(sum(&up, "kittiwake_instances_live{"), 1);
    assert!(sleeping.iter().all(|call| !call.is_finished()));
    // Who leaves makes room, and in the end nothing is left.
    for call in sleeping {
        call.abort();
    }
    until("nobody waits any more", || {
        sum(&up, "kittiwake_gateway_in_flight{") == 0
    });

    // One after the other they are all answered; together they would be done in the time of one.
    let began = Instant::now();
    runtime.block_on(async {
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            calls.spawn(async move { call(gateway, "delayed", "/").await.unwrap() });
        }
        for (status, text) in calls.join_all().await {
            assert_eq!((status, text.trim()), (200, "late"));
        }
    });
    assert!(began.elapsed() >= 20 * Duration::from_millis(50));
}

/// A WebSocket's frame of a short text, masked as a client must (RFC 6455 §5.2).
fn frame(text: &str) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap()];
    frame.extend(mask);
    frame.extend(
        text.bytes()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        read.extend(byte);
    }
    read
}

fn connect(up: &Up, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway(up)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn websockets_and_streams_reach_the_one_instance() {
    let up = start(WORKERS);
    let image = format!("file://{}/guests/knative/servers/wsserver.wasm", root().display());
    deploy(&up, "sockets", &image, "");
    let image = guest_image(&up, "echo", &guest::echo());
    deploy(&up, "echo", &image, "containerConcurrency: 100,");
    let passed_on = || sum(&up, "kittiwake_gateway_passed_on_total{");

    let head = format!(
        "GET / HTTP/1.1\r\nHost: sockets.default.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    let mut sockets: Vec<_> = (0..12).map(|_| connect(&up, &head)).collect();
    for socket in &mut sockets {
        let answer = read_until(socket, b"\r\n\r\n");
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    }
    for round in ["one", "two"] {
        for socket in &mut sockets {
            socket.write_all(&frame(round)).unwrap();
            read_until(socket, round.as_bytes());
        }
    }
    assert!(passed_on() > 0, "every connection came to the owner by chance");
    until_one_pod(&up, "sockets");
    drop(sockets);
    until("they are over", || sum(&up, "kittiwake_gateway_in_flight{") == 0);

    let before = passed_on();
    let head = "POST / HTTP/1.1\r\nHost: echo.default.localhost\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\
                Trailer: x-sum\r\nConnection: close\r\n\r\n";
    let mut streams: Vec<_> = (0..12).map(|_| connect(&up, head)).collect();
    for word in ["one", "two"] {
        for stream in &mut streams {
            // The answer to the first word is there before the second is sent.
            stream.write_all(format!("3\r\n{word}\r\n").as_bytes()).unwrap();
            read_until(stream, word.as_bytes());
        }
    }
    for stream in &mut streams {
        stream.write_all(b"0\r\nx-sum: 42\r\n\r\n").unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.to_lowercase().contains("x-sum: 42"), "{rest:?}");
    }
    assert!(passed_on() > before);
}
