//! Draining, shutting down, and clients that waste time.

use crate::support::{HELLO, Seen, read_until, request, start, start_with};
use kittiwake_core::body;
use kittiwake_gateway::Config;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn draining_finishes_what_runs_and_takes_nothing_new() {
    let server = start();
    let address = server.handle.local_addr();
    let mut idle = server.connect().await;
    idle.write_all(format!("GET / HTTP/1.1\r\nHost: {HELLO}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    read_until(&mut idle, "\r\n\r\nhello-00001").await;
    let mut busy = server.connect().await;
    let head = format!("POST /echo HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: 7\r\n\r\nfir");
    busy.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut busy, "fir").await;

    let handle = server.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(LONG).await });
    assert_eq!(
        idle.read(&mut [0]).await.unwrap(),
        0,
        "idle connections are closed"
    );
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!drain.is_finished());
    busy.write_all(b"st-7").await.unwrap();
    read_until(&mut busy, "st-7").await;
    assert_eq!(drain.await.unwrap(), 0);
    server.task.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_gets_a_last_answer_when_another_gateway_takes_over() {
    let server = start();
    let mut idle = server.connect().await;
    let request = format!("GET / HTTP/1.1\r\nHost: {HELLO}\r\n\r\n");
    idle.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut idle, "\r\n\r\nhello-00001").await;
    let mut silent = server.connect().await;
    silent.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut silent, "\r\n\r\nhello-00001").await;

    let handle = server.handle.clone();
    let over = tokio::spawn(async move { handle.hand_over(LONG, Duration::from_secs(1)).await });
    // It has begun when the socket is closed.
    while TcpStream::connect(server.handle.local_addr()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    idle.write_all(request.as_bytes()).await.unwrap();
    let answer = read_until(&mut idle, "\r\n\r\nhello-00001").await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "it was the last one");
    assert_eq!(
        silent.read(&mut [0]).await.unwrap(),
        0,
        "who stays silent is closed in the end"
    );
    assert_eq!(over.await.unwrap(), 0);
    server.task.await.unwrap();
}

#[tokio::test]
async fn what_does_not_finish_is_cut_and_counted() {
    let mut server = start();
    let mut client = server.http2().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2 {
        calls.spawn(client.send_request(request(&format!("http://{HELLO}/hang"), body::empty())));
        assert_eq!(server.seen.recv().await, Some(Seen::Started));
    }
    assert_eq!(server.handle.in_flight(), 2);
    assert_eq!(server.handle.drain(Duration::from_millis(1)).await, 2);
    while let Some(call) = calls.join_next().await {
        assert!(call.unwrap().is_err());
    }
    for _ in 0..2 {
        assert_eq!(server.seen.recv().await, Some(Seen::Dropped));
    }
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_everything_at_once() {
    let mut server = start();
    let mut stream = server.connect().await;
    stream
        .write_all(format!("GET /hang HTTP/1.1\r\nHost: {HELLO}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(server.seen.recv().await, Some(Seen::Started));
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert_eq!(server.seen.recv().await, Some(Seen::Dropped));
}

#[tokio::test]
async fn clients_that_never_finish_their_head_are_closed() {
    let server = start_with(Config {
        header_read_timeout: Duration::from_millis(50),
        ..Config::default()
    });
    for start in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: a\r\n",
    ] {
        let answer = server.raw(start).await;
        assert!(!answer.contains("200"), "{start:?}: {answer}");
    }
    assert!(
        server
            .metrics()
            .contains("kittiwake_gateway_unrouted_requests_total{reason=\"no_route\"} 0")
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = start_with(Config {
        connections_max: 1,
        ..Config::default()
    });
    let mut first = server.connect().await;
    first
        .write_all(format!("GET / HTTP/1.1\r\nHost: {HELLO}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    read_until(&mut first, "\r\n\r\nhello-00001").await;
    let mut second = server.connect().await;
    second
        .write_all(format!("GET / HTTP/1.1\r\nHost: {HELLO}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert!(server.metrics().contains("kittiwake_gateway_connections 1"));
    drop(first);
    read_until(&mut second, "\r\n\r\nhello-00001").await;
}
