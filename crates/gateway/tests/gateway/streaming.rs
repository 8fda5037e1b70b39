//! Bodies, trailers, and answers without a body.

use crate::support::{HELLO, Seen, read_until, request, start};
use bytes::Bytes;
use http_body_util::{BodyExt, Channel};
use kittiwake_core::body::BodyError;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn the_answer_streams_before_the_request_ends() {
    let server = start();
    let mut stream = server.connect().await;
    let head = format!("POST /echo HTTP/1.1\r\nHost: {HELLO}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for word in ["one", "two"] {
        stream
            .write_all(format!("3\r\n{word}\r\n").as_bytes())
            .await
            .unwrap();
        read_until(&mut stream, &format!("3\r\n{word}\r\n")).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn trailers_pass_both_ways_in_both_protocols() {
    let server = start();
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(4);
    let mut client = server.http2().await;
    let sending = client.send_request(request(&format!("http://{HELLO}/echo"), body.boxed_unsync()));
    let feeding = async {
        sender.send_data("data".into()).await.unwrap();
        sender
            .send_trailers(
                [(http::HeaderName::from_static("x-sum"), "42".parse().unwrap())]
                    .into_iter()
                    .collect(),
            )
            .await
            .unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(sending, feeding);
    let collected = answer.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
    assert_eq!(collected.to_bytes(), "data");

    let answer = server
        .raw(&format!(
            "POST /echo HTTP/1.1\r\nHost: {HELLO}\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n4\r\ndata\r\n0\r\nx-sum: 42\r\n\r\n"
        ))
        .await;
    assert!(
        answer.ends_with("4\r\ndata\r\n0\r\nx-sum: 42\r\n\r\n"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let server = start();
    for (method, path, status, wanted, unwanted) in [
        ("HEAD", "/", "200", Some("content-length: 11\r\n"), None),
        ("GET", "/204", "204", None, Some("content-length")),
        (
            "GET",
            "/304",
            "304",
            Some("etag: \"a\"\r\n"),
            Some("transfer-encoding"),
        ),
        (
            "HEAD",
            "/nothing-here",
            "200",
            Some("content-length: 11\r\n"),
            Some("transfer-encoding"),
        ),
    ] {
        let answer = server
            .raw(&format!(
                "{method} {path} HTTP/1.1\r\nHost: {HELLO}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{method} {path}: {answer:?}");
        assert!(
            wanted.is_none_or(|wanted| answer.contains(wanted)),
            "{method} {path}: {answer}"
        );
        assert!(
            unwanted.is_none_or(|unwanted| !answer.contains(unwanted)),
            "{method} {path}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_continue() {
    let server = start();
    let mut stream = server.connect().await;
    let head = format!(
        "POST /collect HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.write_all(b"data").await.unwrap();
    let answer = read_until(&mut stream, "data").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_call() {
    let mut server = start();
    for path in ["/hang", "/hang-body"] {
        let mut stream = server.connect().await;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: {HELLO}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        assert_eq!(server.seen.recv().await, Some(Seen::Started));
        drop(stream);
        assert_eq!(server.seen.recv().await, Some(Seen::Dropped), "{path}");

        let mut client = server.http2().await;
        let answer = client.send_request(request(
            &format!("http://{HELLO}{path}"),
            kittiwake_core::body::empty(),
        ));
        let answer = tokio::spawn(answer);
        assert_eq!(server.seen.recv().await, Some(Seen::Started));
        answer.abort();
        drop(answer.await);
        drop(client);
        assert_eq!(server.seen.recv().await, Some(Seen::Dropped), "{path}, HTTP/2");
    }
}

#[tokio::test]
async fn an_answer_whose_time_is_up_ends_whole_unless_its_length_was_announced() {
    let server = start();
    let answer = server.get(HELLO, "/late").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("first\r\nF\r\nrequest timeout\r\n0\r\n\r\n"),
        "{answer}"
    );
    // Cut: a client that was told a length must not take a part for the whole.
    let answer = server.get(HELLO, "/late-announced").await;
    assert!(!answer.contains("request timeout"), "{answer}");
}
