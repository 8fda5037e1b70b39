//! Connections that go on with another protocol.

use crate::support::{
    HELLO, Server, entry, read_until, request, revision, routes, start, start_on, start_with, table, text,
};
use http::{Method, Request, StatusCode};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use kittiwake_core::body;
use kittiwake_core::revision::{Limits, RevisionSpec};
use kittiwake_core::routing_table::{RouteEntry, RouteTarget};
use kittiwake_gateway::{Config, Listeners};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(100);

/// A connection after the answer's head.
async fn switched(server: &Server) -> TcpStream {
    let mut stream = server.connect().await;
    let head = format!(
        "GET /switch HTTP/1.1\r\nHost: {HELLO}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo/1\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{answer}"
    );
    let lower = answer.to_lowercase();
    assert!(
        lower.contains("\r\nconnection: upgrade\r\n") && lower.contains("\r\nupgrade: echo/1\r\n"),
        "{answer}"
    );
    stream
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_way_ends_by_itself() {
    let server = start();
    let mut stream = switched(&server).await;
    for word in ["one", "two"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        read_until(&mut stream, word).await;
    }
    assert_eq!(server.handle.in_flight(), 1);
    assert!(
        server
            .metrics()
            .contains("kittiwake_gateway_upgraded_connections 1")
    );
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye", "the function's way is open until it ends it");
    server.until_metric("kittiwake_gateway_in_flight 0").await;
    let shown = server.metrics();
    for line in [
        "kittiwake_gateway_upgraded_connections 0",
        "kittiwake_gateway_upgraded_bytes_total{direction=\"received\"} 6",
        "kittiwake_gateway_upgraded_bytes_total{direction=\"sent\"} 9",
        "response_code=\"101\",response_code_class=\"1xx\",revision_name=\"hello-00001\",service_name=\"hello\"} 1",
    ] {
        assert!(shown.contains(line), "{line}\nis not in\n{shown}");
    }
}

#[tokio::test]
async fn what_comes_with_the_head_is_not_lost() {
    let server = start();
    let mut stream = server.connect().await;
    let head = format!(
        "GET /switch HTTP/1.1\r\nHost: {HELLO}\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\nearly"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "\r\n\r\nearly").await;
}

#[tokio::test]
async fn a_client_that_goes_ends_the_call() {
    let server = start();
    drop(switched(&server).await);
    server.until_metric("kittiwake_gateway_in_flight 0").await;
}

#[tokio::test]
async fn websockets_come_over_http2() {
    let server = start();
    let mut client = server.http2().await;
    // The server's settings allow it; they are there once something was answered.
    let answer = client
        .send_request(request(&format!("http://{HELLO}/"), body::empty()))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let connect = |path: &str| {
        Request::builder()
            .method(Method::CONNECT)
            .uri(format!("http://{HELLO}{path}"))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(body::empty())
            .unwrap()
    };
    let answer = client.send_request(connect("/switch")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["x-key"].len(),
        24,
        "the function was given a key"
    );
    assert!(!answer.headers().contains_key("sec-websocket-accept"));
    let mut io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    io.write_all(b"over two").await.unwrap();
    let mut read = [0; 8];
    io.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"over two");
    io.shutdown().await.unwrap();
    let mut rest = String::new();
    io.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye");

    let refused = client.send_request(connect("/switch/not")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    let plain = Request::connect(format!("{HELLO}:80"))
        .body(body::empty())
        .unwrap();
    assert_eq!(client.send_request(plain).await.unwrap().status(), 405);
}

#[tokio::test]
async fn a_function_need_not_switch_and_must_not_unasked() {
    let server = start();
    let asking = format!(
        "GET /switch/not HTTP/1.1\r\nHost: {HELLO}\r\nConnection: Upgrade, close\r\nUpgrade: echo/1\r\n\r\n"
    );
    let answer = server.raw(&asking).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("as before"),
        "{answer}"
    );
    let answer = server.get(HELLO, "/switch/unasked").await;
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway"), "{answer}");
    assert_eq!(server.handle.in_flight(), 0);
}

#[tokio::test]
async fn http2_is_not_entered_by_an_upgrade() {
    let server = start();
    let answer = server
        .raw(&format!(
            "GET /head HTTP/1.1\r\nHost: {HELLO}\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let seen = answer.to_lowercase();
    assert!(
        !seen.contains("upgrade:") && !seen.contains("http2-settings"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_drain_ends_upgraded_connections_that_are_quiet() {
    let server = start_with(Config {
        upgraded_quiet: SHORT,
        upgraded_end_max: LONG,
        ..Config::default()
    });
    let mut stream = switched(&server).await;
    assert_eq!(server.handle.drain(LONG).await, 0, "it is ended, not cut");
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_upgraded_connections_that_are_not_quiet_after_a_while() {
    let server = start_with(Config {
        upgraded_quiet: LONG,
        upgraded_end_max: SHORT,
        ..Config::default()
    });
    let mut stream = switched(&server).await;
    let handle = server.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(LONG).await });
    while stream.write_all(b"x").await.is_ok() && stream.read(&mut [0]).await.is_ok_and(|length| length > 0) {
    }
    assert_eq!(drain.await.unwrap(), 0);
}

#[tokio::test]
async fn a_drain_cuts_them_when_its_time_is_up() {
    let server = start();
    let _stream = switched(&server).await;
    assert_eq!(server.handle.drain(SHORT).await, 1);
    server.task.await.unwrap();
}

#[tokio::test]
async fn the_limits_of_the_revision_hold() {
    let limited = |limits: Limits| {
        let revision = Arc::new(RevisionSpec {
            limits,
            ..(*revision("limited")).clone()
        });
        let target = RouteTarget {
            revision,
            percent: 100,
        };
        Arc::new(RouteEntry {
            targets: vec![target],
            ..(*entry(&[], None)).clone()
        })
    };
    for limits in [
        Limits {
            timeout: SHORT,
            ..Limits::default()
        },
        Limits {
            idle_timeout: Some(SHORT),
            ..Limits::default()
        },
    ] {
        let mut routes = routes();
        routes[0].1 = limited(limits);
        let server = start_on(Config::default(), table(routes), Listeners::default());
        let mut stream = switched(&server).await;
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn requests_after_a_refused_upgrade_are_answered_on_the_same_connection() {
    let server = start();
    let mut client = server.http1().await;
    for _ in 0..2 {
        let asking = Request::get("/switch/not")
            .header("host", HELLO)
            .header("connection", "upgrade")
            .header("upgrade", "echo")
            .body(body::empty())
            .unwrap();
        client.ready().await.unwrap();
        let answer = client.send_request(asking).await.unwrap();
        assert_eq!(text(answer).await, (StatusCode::OK, "as before".to_owned()));
    }
}
