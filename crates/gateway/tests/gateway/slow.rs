//! Clients that are slow, many, or mean.

use crate::support::{HELLO, Seen, read_until, request, start, start_with};
use http::StatusCode;
use kittiwake_core::body;
use kittiwake_core::unit::ByteCount;
use kittiwake_gateway::Config;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_client_that_stops_in_its_body_is_told_so() {
    let server = start_with(Config {
        body_idle_timeout: SHORT,
        ..Config::default()
    });
    let head = format!("POST /collect HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: 9\r\n\r\nfir");
    let answer = server.raw(&head).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout"), "{answer}");
    assert!(
        answer.ends_with("the request's body was not sent in time\n"),
        "{answer}"
    );
    // Once the function has answered, silence is its own business.
    let mut stream = server.connect().await;
    let head = format!("POST /echo HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: 9\r\n\r\nfir");
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "fir").await;
    let silent = tokio::time::timeout(SHORT * 3, stream.read_u8()).await;
    assert!(silent.is_err(), "{silent:?}");
    stream.write_all(b"st-six").await.unwrap();
    read_until(&mut stream, "st-six").await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let mut server = start_with(Config {
        write_stall_timeout: SHORT,
        ..Config::default()
    });
    let mut stream = server.connect().await;
    let head = format!("GET /flood HTTP/1.1\r\nHost: {HELLO}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(server.seen.recv().await, Some(Seen::Started));
    assert_eq!(server.seen.recv().await, Some(Seen::Dropped));
    assert_eq!(server.handle.in_flight(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_in_its_body_is_noticed() {
    let mut server = start();
    let mut stream = server.connect().await;
    let head = format!("POST /read HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: 9\r\n\r\nfir");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(server.seen.recv().await, Some(Seen::Started));
    drop(stream);
    assert_eq!(server.seen.recv().await, Some(Seen::Broken));
}

#[tokio::test]
async fn long_targets_and_many_headers_are_refused_in_both_protocols() {
    let server = start_with(Config {
        target_bytes_max: ByteCount(100),
        headers_max: 20,
        ..Config::default()
    });
    let long = format!("/{}", "x".repeat(100));
    let answer = server.get(HELLO, &long).await;
    assert!(answer.starts_with("HTTP/1.1 414"), "{answer}");
    let mut client = server.http2().await;
    let asked = request(&format!("http://{HELLO}{long}"), body::empty());
    let answer = client.send_request(asked).await.unwrap();
    assert_eq!(answer.status(), StatusCode::URI_TOO_LONG);
    let mut asked = request(&format!("http://{HELLO}/"), body::empty());
    for n in 0..30 {
        let name: http::HeaderName = format!("x-{n}").parse().unwrap();
        asked.headers_mut().insert(name, "1".parse().unwrap());
    }
    let answer = client.send_request(asked).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn a_client_that_takes_back_its_calls_is_closed() {
    let mut server = start_with(Config {
        http2_resets_max: 10,
        ..Config::default()
    });
    let mut client = server.http2().await;
    let mut taken_back = 0;
    loop {
        let call = client.send_request(request(&format!("http://{HELLO}/hang"), body::empty()));
        let call = tokio::spawn(call);
        tokio::select! {
            seen = server.seen.recv() => assert_eq!(seen, Some(Seen::Started)),
            () = wait_until(|| call.is_finished()) => break,
        }
        call.abort();
        assert_eq!(server.seen.recv().await, Some(Seen::Dropped));
        taken_back += 1;
        assert!(taken_back < 20, "the connection is still open");
    }
    assert!(taken_back >= 10, "only {taken_back}");
    let mut another = server.http2().await;
    let asked = request(&format!("http://{HELLO}/"), body::empty());
    assert_eq!(another.send_request(asked).await.unwrap().status(), 200);
}

async fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

/// Connections of the test below: 10,000, or what the limit on open files leaves, of which both ends take one.
fn idle_connections() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    let spare = soft.unwrap_or(1024_usize).saturating_sub(400) / 2;
    spare.min(10_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_idle_connections_are_borne() {
    let server = start();
    let count = idle_connections();
    let head = format!("GET / HTTP/1.1\r\nHost: {HELLO}\r\n\r\n");
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = server.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut stream, "\r\n\r\nhello-00001").await;
        idle.push(stream);
    }
    server
        .until_metric(&format!("kittiwake_gateway_connections {count}\n"))
        .await;
    let answer = server.get(HELLO, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Each is still good.
    for stream in idle.iter_mut().step_by(97) {
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(stream, "\r\n\r\nhello-00001").await;
    }
    assert_eq!(server.handle.drain(Duration::from_secs(60)).await, 0);
}
