//! Hosts, shares, headers, statuses.

use crate::support::{BODY_BYTES_MAX, HELLO, read_until, request, start, text};
use kittiwake_core::body;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_host_leads_to_its_revision_whatever_its_port_and_case() {
    let server = start();
    for host in [HELLO, "HELLO.Default.LocalHost:8080", "hello.default.localhost."] {
        let answer = server.get(host, "/").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("\r\ndate: ") && answer.contains("\r\nx-by: hello-00001\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\nhello-00001"), "{answer}");
    }
    assert!(server.get(HELLO, "/teapot").await.starts_with("HTTP/1.1 418 "));
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let server = start();
    for (host, path, status, parts) in [
        (
            "none.default.localhost",
            "/",
            404,
            vec!["no route for host none.default.localhost", "[KW0206]"],
        ),
        (
            "unready.default.localhost",
            "/",
            503,
            vec!["retry-after: 1", "failed: no such image", "[KW0207]"],
        ),
        (HELLO, "/trap", 500, vec!["`kittiwake logs hello`", "[KW0201]"]),
        (HELLO, "/timeout", 504, vec!["\r\n\r\nrequest timeout"]),
        (HELLO, "/none", 500, vec!["[KW0203]"]),
        (HELLO, "/large", 413, vec!["limit of 1000", "[KW0204]"]),
        (HELLO, "/busy", 503, vec!["retry-after: 7", "[KW0205]"]),
        (HELLO, "/missing", 503, vec!["there is no such image", "[KW0101]"]),
        (HELLO, "/internal", 500, vec!["[KW0901]"]),
    ] {
        let answer = server.get(host, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
        assert!(
            answer.contains("content-type: text/plain; charset=utf-8"),
            "{answer}"
        );
        assert!(!answer.contains("secret"), "{answer}");
        for part in parts {
            assert!(answer.contains(part), "{path}: {part} is not in {answer}");
        }
    }
}

#[tokio::test]
async fn requests_without_a_usable_host_are_refused() {
    let server = start();
    for request in [
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
        "GET http://user@hello.default.localhost/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "NONSENSE\r\n\r\n",
    ] {
        let answer = server.raw(request).await;
        assert!(answer.contains(" 400 Bad Request\r\n"), "{request:?}: {answer:?}");
    }
    let absolute =
        "GET http://hello.default.localhost/x HTTP/1.1\r\nHost: ignored\r\nConnection: close\r\n\r\n";
    assert!(server.raw(absolute).await.contains(" 200 OK"));
    let tunnel = "CONNECT hello.default.localhost:80 HTTP/1.1\r\nHost: hello.default.localhost:80\r\nConnection: close\r\n\r\n";
    assert!(server.raw(tunnel).await.contains(" 405 "));
    assert_eq!(server.function.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let server = start();
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "x".repeat(100_000));
    for headers in [many, long] {
        let answer = server
            .raw(&format!("GET / HTTP/1.1\r\nHost: {HELLO}\r\n{headers}\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    }
    assert_eq!(server.function.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_announced_too_large_calls_nobody() {
    let server = start();
    let head = |length| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let answer = server.raw(&head(BODY_BYTES_MAX + 1)).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains("[KW0204]"),
        "{answer}"
    );
    assert_eq!(server.function.calls.load(Ordering::SeqCst), 0);
    let body = "x".repeat(usize::try_from(BODY_BYTES_MAX).unwrap());
    let answer = server.raw(&(head(BODY_BYTES_MAX) + &body)).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(&body),
        "{answer}"
    );
}

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let server = start();
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream
            .write_all(format!("GET / HTTP/1.1\r\nHost: {HELLO}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let answer = read_until(&mut stream, "\r\n\r\nhello-00001").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let mut client = server.http2().await;
    for _ in 0..3 {
        let answer = client
            .send_request(request(&format!("http://{HELLO}/"), body::empty()))
            .await
            .unwrap();
        assert_eq!(
            text(answer).await,
            (http::StatusCode::OK, "hello-00001".to_owned())
        );
    }
    assert!(server.metrics().contains("kittiwake_gateway_connections 2"));
}

#[tokio::test]
async fn the_function_sees_what_knative_shows_it() {
    let server = start();
    let answer = server
        .raw(&format!(
            "GET /head?a=1&b HTTP/1.1\r\nHost: {HELLO}:8080\r\nConnection: close, X-Drop\r\nX-Drop: 1\r\nX-Own: kept\r\n\
             traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nK-Original-Host: evil\r\n\
             Knative-Serving-Revision: evil\r\n\r\n"
        ))
        .await;
    for line in [
        "GET /head?a=1&b\n",
        "host: hello.default.localhost:8080\n",
        "x-own: kept\n",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "forwarded: for=127.0.0.1;host=\"hello.default.localhost:8080\";proto=http\n",
        "x-request-id: ",
    ] {
        assert!(answer.contains(line), "{line:?} is not in {answer}");
    }
    assert!(!answer.contains("evil") && !answer.contains("x-drop"), "{answer}");

    let mut client = server.http2().await;
    let mut wanted = request(&format!("http://{HELLO}/head?q"), body::empty());
    wanted.headers_mut().clear();
    let (_, seen) = text(client.send_request(wanted).await.unwrap()).await;
    assert!(
        seen.starts_with("GET /head?q\n") && seen.contains(&format!("host: {HELLO}\n")),
        "{seen}"
    );
}

#[tokio::test]
async fn hop_by_hop_headers_of_the_answer_go() {
    let server = start();
    let mut stream = server.connect().await;
    stream
        .write_all(format!("GET /hop HTTP/1.1\r\nHost: {HELLO}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let answer = read_until(&mut stream, "\r\n\r\nhop").await;
    assert!(answer.contains("x-public: 1"), "{answer}");
    assert!(
        !answer.contains("x-private") && !answer.contains("close") && !answer.contains("keep-alive"),
        "{answer}"
    );
}

#[tokio::test]
async fn traffic_is_split_by_lot() {
    let server = start();
    let mut client = server.http1().await;
    let mut counts = HashMap::<String, u32>::new();
    for _ in 0..2000 {
        client.ready().await.unwrap();
        let mut request = request("/", body::empty());
        request
            .headers_mut()
            .insert("host", "split.default.localhost".parse().unwrap());
        let (_, name) = text(client.send_request(request).await.unwrap()).await;
        *counts.entry(name).or_default() += 1;
    }
    // 200 are expected; 6 standard deviations (13.4 each) to either side happen once in 500 million runs.
    assert!((120..=280).contains(&counts["hello-00001"]), "{counts:?}");
    assert_eq!(counts.values().sum::<u32>(), 2000);
}

#[tokio::test]
async fn a_new_routing_table_takes_over_while_calls_run() {
    let mut server = start();
    let mut stream = server.connect().await;
    stream
        .write_all(format!("GET /hang HTTP/1.1\r\nHost: {HELLO}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    server.seen.recv().await.unwrap();
    let moved = crate::support::table(vec![(
        "moved.default.localhost",
        crate::support::entry(&[("hello-00002", 100)], None),
    )]);
    server.routes.send(moved).unwrap();
    while !server
        .get("moved.default.localhost", "/")
        .await
        .ends_with("hello-00002")
    {
        tokio::task::yield_now().await;
    }
    assert!(server.get(HELLO, "/").await.contains(" 404 "));
    assert_eq!(server.handle.in_flight(), 1, "the call that began before goes on");
}
