//! Functions with fewer instances than there are gateways: calls are passed on to one that has an instance.

use crate::joined::{Joined, UID, routes};
use crate::support::{HELLO, Seen, read_until, request, start, table};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Channel};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use kittiwake_core::artifact::FunctionKind;
use kittiwake_core::body::{self, BodyError};
use kittiwake_gateway::Config;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SHORT: Duration = Duration::from_millis(100);
/// An answer without what differs each time; the order of headers, which means nothing, in its head and in the body of
/// `/head`.
fn stable(answer: &str) -> String {
    let stays = |line: &&str| {
        let line = line.to_lowercase();
        !line.starts_with("date:") && !line.starts_with("x-request-id:")
    };
    let sorted = |text: &str, end: &str| {
        let mut lines: Vec<&str> = text.split(end).filter(stays).collect();
        lines[1..].sort_unstable();
        lines.join(end)
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    format!("{}\r\n\r\n{}", sorted(head, "\r\n"), sorted(body, "\n"))
}

#[tokio::test]
async fn callers_cannot_tell_which_process_answers() {
    let joined = Joined::new(FunctionKind::Component, 2, 1);
    let alone = start();
    for path in [
        "/",
        "/head",
        "/head?a=b%20c",
        "/hop",
        "/teapot",
        "/204",
        "/304",
        "/trap",
        "/timeout",
        "/none",
        "/large",
        "/busy",
        "/missing",
        "/internal",
        "/late",
        "/switch/not",
        "/switch/unasked",
    ] {
        let wanted = stable(&alone.get(HELLO, path).await);
        assert!(wanted.starts_with("HTTP/1.1 "), "{wanted}");
        for by in 0..2 {
            assert_eq!(
                stable(&joined.get(by, path).await),
                wanted,
                "{path} by way of {by}"
            );
        }
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: {HELLO}\r\nConnection: close\r\n\r\n");
        if !path.starts_with("/switch") {
            let wanted = stable(&alone.raw(&head).await);
            assert_eq!(stable(&joined.servers[0].raw(&head).await), wanted, "HEAD {path}");
        }
    }
    for (what, sent) in [
        ("a body", "POST /collect HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello".to_owned()),
        (
            "trailers",
            "POST /echo HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n4\r\ndata\r\n0\r\nx-sum: 42\r\n\r\n"
                .to_owned(),
        ),
    ] {
        let sent = sent.replace("{}", HELLO);
        let by_owner = stable(&joined.servers[1].raw(&sent).await);
        assert_eq!(stable(&joined.servers[0].raw(&sent).await), by_owner, "{what}");
    }
    // What processes say to one another no client says for them, and no function hears.
    let forged = format!(
        "GET /head HTTP/1.1\r\nHost: {HELLO}\r\nkittiwake-relay-uid: other\r\nConnection: close\r\n\r\n"
    );
    let answer = joined.servers[0].raw(&forged).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("relay"),
        "{answer}"
    );
    let calls = joined.function_calls();
    assert_eq!(calls[0], 0, "only the owner has an instance");
    assert!(calls[1] > 30);
}

#[tokio::test]
async fn a_call_is_counted_once_where_it_came_in() {
    let mut joined = Joined::new(FunctionKind::Component, 2, 1);
    joined.get(0, "/teapot").await;
    joined.servers[0]
        .until_metric("kittiwake_gateway_in_flight 0")
        .await;
    let (front, owner) = (joined.servers[0].metrics(), joined.servers[1].metrics());
    for line in [
        "response_code=\"418\",response_code_class=\"4xx\",revision_name=\"hello-00001\",service_name=\"hello\"} 1",
        "kittiwake_gateway_passed_on_total 1",
        "kittiwake_cold_start_seconds_count{",
    ] {
        assert!(front.contains(line), "{line}\nis not in\n{front}");
    }
    assert!(front.contains("revision_app_request_count{"));
    assert!(!owner.contains("revision_request_count{"), "{owner}");
    // The autoscaler hears of it from the owner.
    let seen = loop {
        let stats = joined.stats[1].recv().await.unwrap();
        if let Some(stat) = stats.of.iter().find(|stat| stat.requests_per_second > 0.0) {
            break stat.uid.clone();
        }
    };
    assert_eq!(&*seen, UID);
    while let Ok(stats) = joined.stats[0].try_recv() {
        assert!(stats.of.is_empty(), "{stats:?}");
    }
}

#[tokio::test]
async fn calls_in_flight_are_bounded_over_all_processes() {
    let mut joined = Joined::new(FunctionKind::Component, 3, 1);
    let mut calls = std::collections::VecDeque::new();
    for (before, by) in [0, 1, 2, 0, 1, 2].into_iter().enumerate() {
        let mut stream = joined.servers[by].connect().await;
        let head = format!("GET /hang HTTP/1.1\r\nHost: {HELLO}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        calls.push_back(stream);
        let there = format!("kittiwake_gateway_in_flight {}\n", before + 1);
        joined.servers[1].until_metric(&there).await;
    }
    // One runs at a time, in the order in which they came; a client that leaves makes room for the next.
    for call in 1..=6 {
        assert_eq!(joined.servers[1].seen.recv().await, Some(Seen::Started));
        assert_eq!(joined.function_calls(), [0, call, 0]);
        drop(calls.pop_front());
        assert_eq!(joined.servers[1].seen.recv().await, Some(Seen::Dropped));
    }
    for server in &joined.servers {
        server.until_metric("kittiwake_gateway_in_flight 0\n").await;
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_with_trailers() {
    let joined = Joined::new(FunctionKind::Component, 2, 1);
    let mut client = joined.servers[0].http2().await;
    let (mut sender, body) = Channel::<Bytes, BodyError>::new(4);
    let answer = client
        .send_request(request(&format!("http://{HELLO}/echo"), body.boxed_unsync()))
        .await
        .unwrap();
    let mut answer = answer.into_body();
    for word in ["one", "two"] {
        sender.send_data(word.into()).await.unwrap();
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), word);
    }
    let sum = (http::HeaderName::from_static("x-sum"), "42".parse().unwrap());
    sender.send_trailers([sum].into_iter().collect()).await.unwrap();
    drop(sender);
    let trailers = answer.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["x-sum"], "42");

    let call = Request::post(format!("http://{HELLO}/grpc.Echo/Call"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body::full(&[0, 0, 0, 0, 0][..]))
        .unwrap();
    let collected = client
        .send_request(call)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), &[0, 0, 0, 0, 0][..]);
    let call = Request::post(format!("http://{HELLO}/busy"))
        .header("content-type", "application/grpc")
        .body(body::empty())
        .unwrap();
    let answer = client.send_request(call).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["grpc-status"]),
        (200, &"14".parse().unwrap())
    );
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_up_no_other() {
    let mut joined = Joined::new(FunctionKind::Component, 2, 1);
    // Many instances: what is shared is the connection.
    for (index, server) in joined.servers.iter().enumerate() {
        let mut revision = joined.shared.revision(u32::try_from(index).unwrap());
        revision.limits.concurrency = NonZeroU32::new(1000);
        server.routes.send_replace(routes(revision));
    }
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = joined.servers[0].connect().await;
        let head = format!("GET /flood HTTP/1.1\r\nHost: {HELLO}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(joined.servers[1].seen.recv().await, Some(Seen::Started));
        slow.push(stream);
    }
    // None of them has read: more than any usual window of a connection waits.
    let answer = joined.get(0, "/teapot").await;
    assert!(answer.starts_with("HTTP/1.1 418"), "{answer}");
    drop(slow);
    for _ in 0..100 {
        assert_eq!(joined.servers[1].seen.recv().await, Some(Seen::Dropped));
    }
}

#[tokio::test]
async fn a_client_that_stops_in_its_body_is_told_so() {
    let config = Config {
        body_idle_timeout: SHORT,
        ..Config::default()
    };
    let joined = Joined::with(FunctionKind::Component, 2, 1, &config);
    let head = format!("POST /collect HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: 9\r\n\r\nfir");
    let answer = joined.servers[0].raw(&head).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_in_its_body_is_noticed() {
    let mut joined = Joined::new(FunctionKind::Component, 2, 1);
    let mut stream = joined.servers[0].connect().await;
    let head = format!("POST /read HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: 9\r\n\r\nfir");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(joined.servers[1].seen.recv().await, Some(Seen::Started));
    drop(stream);
    // The call is dropped, or its body breaks, whichever the owner hears of first.
    joined.servers[1]
        .until_metric("kittiwake_gateway_in_flight 0")
        .await;
}

#[tokio::test]
async fn a_connection_goes_on_with_another_protocol() {
    let joined = Joined::new(FunctionKind::Component, 2, 1);
    let mut stream = joined.servers[0].connect().await;
    let head = format!(
        "GET /switch HTTP/1.1\r\nHost: {HELLO}\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\n\r\nearly"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\nearly").await;
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("relay"), "{answer}");
    for word in ["one", "two"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        read_until(&mut stream, word).await;
    }
    assert_eq!(
        joined.servers[1].handle.in_flight(),
        1,
        "the call has its instance"
    );
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye", "the function's way is open until it ends it");
    for server in &joined.servers {
        server.until_metric("kittiwake_gateway_in_flight 0").await;
    }
    // A client that goes ends it as well.
    let mut stream = joined.servers[0].connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "early").await;
    drop(stream);
    joined.servers[1]
        .until_metric("kittiwake_gateway_in_flight 0")
        .await;
}

#[tokio::test]
async fn websockets_over_http2_are_passed_on() {
    let joined = Joined::new(FunctionKind::Component, 2, 1);
    let mut client = joined.servers[0].http2().await;
    // The server's settings allow it; they are there once something was answered.
    let first = client.send_request(request(&format!("http://{HELLO}/"), body::empty()));
    assert_eq!(first.await.unwrap().status(), 200);
    let connect = |path: &str| {
        Request::connect(format!("http://{HELLO}{path}"))
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(body::empty())
            .unwrap()
    };
    let answer = client.send_request(connect("/switch")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    io.write_all(b"over two").await.unwrap();
    let mut read = [0; 8];
    io.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"over two");
    drop(io);
    joined.servers[1]
        .until_metric("kittiwake_gateway_in_flight 0\n")
        .await;
    let refused = client.send_request(connect("/switch/not")).await.unwrap();
    assert_eq!(refused.status(), 502);
    assert_eq!(joined.function_calls(), [0, 3]);
}

#[tokio::test]
async fn an_owner_that_ends_with_calls_fails_those_and_the_next_waits_for_another() {
    let mut joined = Joined::new(FunctionKind::Component, 2, 1);
    let mut busy = joined.servers[0].connect().await;
    let head = format!("GET /hang HTTP/1.1\r\nHost: {HELLO}\r\n\r\n");
    busy.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(joined.servers[1].seen.recv().await, Some(Seen::Started));
    let owner = joined.servers.remove(1);
    owner.shutdown.cancel();
    owner.task.await.unwrap();
    let answer = read_until(&mut busy, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");

    // Nobody is there, but the door: the call waits in it.
    let mut waiting = joined.servers[0].connect().await;
    let head = format!("GET /teapot HTTP/1.1\r\nHost: {HELLO}\r\n\r\n");
    waiting.write_all(head.as_bytes()).await.unwrap();
    joined.servers[0]
        .until_metric("kittiwake_gateway_in_flight 1")
        .await;
    let (again, ..) = joined.start(1, Config::default());
    let answer = read_until(&mut waiting, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 418"), "{answer}");
    assert_eq!(again.function.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_owner_that_drains_finishes_what_was_passed_on() {
    let mut joined = Joined::new(FunctionKind::Component, 2, 1);
    // Room for more than one call: who has not heard yet that the owner drains still sends it some.
    for index in 0..2_u32 {
        let mut revision = joined.shared.revision(index);
        revision.limits.concurrency = NonZeroU32::new(1000);
        joined.route(index as usize, routes(revision)).await;
    }
    let mut busy = joined.servers[0].connect().await;
    let head = format!("POST /echo HTTP/1.1\r\nHost: {HELLO}\r\nContent-Length: 7\r\n\r\nfir");
    busy.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut busy, "fir").await;
    let owner = joined.servers.remove(1);
    let handle = owner.handle.clone();
    let drain = tokio::spawn(async move { handle.drain(Duration::from_secs(600)).await });
    // Another takes over the door; calls go there without a failure meanwhile.
    let (again, ..) = joined.start(1, Config::default());
    for _ in 0..20 {
        let answer = joined.get(0, "/teapot").await;
        assert!(answer.starts_with("HTTP/1.1 418"), "{answer}");
    }
    assert!(!drain.is_finished());
    busy.write_all(b"st-7").await.unwrap();
    read_until(&mut busy, "st-7").await;
    assert_eq!(drain.await.unwrap(), 0);
    owner.task.await.unwrap();
    assert!(joined.get(0, "/teapot").await.starts_with("HTTP/1.1 418"));
    assert!(again.function.calls.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_while_owners_are_replaced() {
    let mut joined = Joined::new(FunctionKind::Component, 2, 1);
    let front = joined.servers[0].handle.local_addr();
    let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (ended, answered) = (Arc::clone(&ended), Arc::clone(&answered));
            tokio::spawn(async move {
                let stream = tokio::net::TcpStream::connect(front).await.unwrap();
                let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
                tokio::spawn(connection);
                while !ended.load(Ordering::Relaxed) {
                    client.ready().await.unwrap();
                    let call = Request::get("/teapot").header("host", HELLO);
                    let answer = client
                        .send_request(call.body(body::empty()).unwrap())
                        .await
                        .unwrap();
                    assert_eq!(answer.status(), 418);
                    answer.into_body().collect().await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let before = answered.load(Ordering::Relaxed);
        let (next, ..) = joined.start(1, Config::default());
        let old = std::mem::replace(&mut joined.servers[1], next);
        assert_eq!(old.handle.drain(Duration::from_secs(600)).await, 0);
        old.task.await.unwrap();
        while answered.load(Ordering::Relaxed) < before + 20 {
            assert!(callers.iter().all(|caller| !caller.is_finished()));
            tokio::task::yield_now().await;
        }
    }
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_was_passed_on_goes_no_further() {
    let joined = Joined::new(FunctionKind::Component, 3, 1);
    // The owner's table is another: it takes the third for the owner.
    let mut revision = joined.shared.revision(1);
    let owners = revision.scaling.owners.as_mut().unwrap();
    (owners.first, owners.place) = (2, 2);
    joined.route(1, routes(revision)).await;
    let answer = joined.get(0, "/").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    assert_eq!(joined.function_calls(), [0, 0, 0]);
}

#[tokio::test]
async fn who_hears_later_that_a_revision_left_is_answered() {
    let joined = Joined::new(FunctionKind::Server, 2, 1);
    let answer = joined.get(0, "/").await;
    assert!(answer.ends_with("process 1, call 1"), "{answer}");
    joined.route(1, table(Vec::new())).await;
    let answer = joined.get(0, "/").await;
    assert!(answer.ends_with("process 1, call 2"), "{answer}");
    // And in the end its instance goes.
    let Joined { mut asked, .. } = joined;
    assert_eq!(asked.recv().await, Some((1, 1)));
    assert_eq!(asked.recv().await, Some((1, 0)));
}

#[tokio::test]
async fn one_instance_answers_for_all_processes() {
    let mut joined = Joined::new(FunctionKind::Server, 3, 1);
    for call in 1..=30 {
        let answer = joined.get(call % 3, "/").await;
        assert!(answer.ends_with(&format!("process 1, call {call}")), "{answer}");
    }
    // At zero the owner started it, and nobody else anything.
    assert_eq!(joined.asked.try_recv(), Ok((1, 1)));
    assert!(joined.asked.try_recv().is_err());
}

#[tokio::test]
async fn as_many_have_instances_as_are_wanted() {
    let joined = Joined::new(FunctionKind::Server, 4, 3);
    let answering = async |calls: usize| {
        let mut by = std::collections::BTreeSet::new();
        for call in 0..calls {
            let answer = joined.get(call % 4, "/").await;
            let text = answer.rsplit("process ").next().unwrap().to_owned();
            by.insert(text.split(',').next().unwrap().parse::<u32>().unwrap());
        }
        by.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(answering(12).await, [1], "one is enough to begin with");
    joined.scale(2);
    // Each hears of it by itself.
    while answering(12).await != [1, 2] {}
    joined.scale(3);
    while answering(24).await != [1, 2, 3] {}
    joined.scale(1);
    while answering(12).await != [1] {}
}

#[tokio::test]
async fn another_owner_takes_what_one_that_is_gone_was_not_sent() {
    let mut joined = Joined::new(FunctionKind::Component, 3, 2);
    for _ in 0..4 {
        assert!(joined.get(0, "/").await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(joined.function_calls(), [0, 2, 2], "they take turns");
    let gone = joined.servers.remove(1);
    gone.shutdown.cancel();
    gone.task.await.unwrap();
    for _ in 0..2 {
        assert!(joined.get(0, "/").await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(joined.function_calls(), [0, 4]);
}
