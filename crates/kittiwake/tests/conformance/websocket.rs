//! `test/e2e/websocket_test.go`: an upgraded connection through the gateway, and what ends it.

use crate::suite::{Suite, annotate, container, server, split, tag_url, text};
use kittiwake_testkit::platform::PATIENCE;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MESSAGE: &str = "Hello, websocket";
/// Key and answer are the example of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// First byte of a text in one frame, and of the end.
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// A connection with short texts in frames of one byte of length (RFC 6455 §5.2).
struct WebSocket(TcpStream);

impl WebSocket {
    async fn connect(suite: &Suite, url: &str, query: &str) -> Self {
        let (host, path) = split(url);
        let mut stream = TcpStream::connect(suite.platform.gateway()).await.unwrap();
        let head = format!(
            "GET {path}?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let accept = format!("sec-websocket-accept: {ACCEPT}");
        assert!(
            answer.lines().any(|line| line.eq_ignore_ascii_case(&accept)),
            "{answer}"
        );
        Self(stream)
    }

    /// Sends a text, masked as a client must.
    async fn say(&mut self, said: &str) {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![TEXT, 0x80 | u8::try_from(said.len()).unwrap()];
        frame.extend(mask);
        frame.extend(
            said.bytes()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next text; `None` when the connection is ended before it.
    async fn hear(&mut self) -> Option<String> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).await.ok()?;
        if head[0] == CLOSE {
            return None;
        }
        assert!(head[0] == TEXT && head[1] < 126, "{head:?}");
        let mut heard = vec![0; head[1].into()];
        self.0.read_exact(&mut heard).await.ok()?;
        Some(String::from_utf8(heard).unwrap())
    }
}

/// Says something over a connection of its own and returns what is heard.
async fn echo(suite: &Suite, url: &str, query: &str) -> Option<String> {
    let echoed = async {
        let mut socket = WebSocket::connect(suite, url, query).await;
        socket.say(MESSAGE).await;
        socket.hear().await
    };
    tokio::time::timeout(PATIENCE, echoed).await.unwrap()
}

/// `TestWebSocket`
#[tokio::test(flavor = "multi_thread")]
async fn test_web_socket() {
    let suite = Suite::start().await;
    let ready = suite.create_service_ready(&server("echo", "wsserver")).await;
    let url = text(&ready, "/status/url");
    assert_eq!(echo(&suite, url, "").await.as_deref(), Some(MESSAGE));
    // Many messages, and an end that the client wants.
    let mut socket = WebSocket::connect(&suite, url, "").await;
    for number in 0..100 {
        socket.say(&number.to_string()).await;
        assert_eq!(socket.hear().await, Some(number.to_string()));
    }
    socket.0.write_all(&[CLOSE, 0x80, 1, 2, 3, 4]).await.unwrap();
    assert_eq!(socket.hear().await, None);
}

/// `TestWebSocketViaActivator`
#[tokio::test(flavor = "multi_thread")]
async fn test_web_socket_via_activator() {
    let suite = Suite::start().await;
    let mut wanted = server("echo", "wsserver");
    annotate(&mut wanted, "autoscaling.knative.dev/target-burst-capacity", "-1");
    let ready = suite.create_service_ready(&wanted).await;
    assert_eq!(
        echo(&suite, text(&ready, "/status/url"), "").await.as_deref(),
        Some(MESSAGE)
    );
}

/// `TestWebSocketBlueGreenRoute`
#[tokio::test(flavor = "multi_thread")]
async fn test_web_socket_blue_green_route() {
    let suite = Arc::new(Suite::start().await);
    let colored = |color: &str| {
        let mut wanted = server("teal", "wsserver");
        container(&mut wanted)["env"] = json!([{"name": "SUFFIX", "value": color}]);
        wanted["spec"]["template"].take()
    };
    let mut blue = server("teal", "wsserver");
    blue["spec"]["template"] = colored("Blue");
    suite.create_service_ready(&blue).await;
    let change = |service: &mut Value| service["spec"]["template"] = colored("Green");
    suite.update("services", "teal", change).await.unwrap();
    suite.latest_revision_after("teal", "teal-00001").await;
    let split = |service: &mut Value| {
        service["spec"]["traffic"] = json!([
            {"tag": "blue", "revisionName": "teal-00001", "percent": 50},
            {"tag": "green", "revisionName": "teal-00002", "percent": 50}]);
    };
    suite.update("services", "teal", split).await.unwrap();
    let ready = suite
        .until("services", "teal", |service| {
            crate::suite::is_ready(service)
                && service["status"]["traffic"]
                    .as_array()
                    .is_some_and(|all| all.len() == 2)
        })
        .await;
    let green = echo(&suite, &tag_url(&ready, "green"), "").await;
    assert_eq!(green.as_deref(), Some("Hello, websocket Green"));
    let mut heard = BTreeMap::<String, usize>::new();
    let calls: Vec<_> = (0..crate::suite::CALLS)
        .map(|_| {
            let (suite, url) = (Arc::clone(&suite), text(&ready, "/status/url").to_owned());
            tokio::spawn(async move { echo(&suite, &url, "").await.unwrap() })
        })
        .collect();
    for call in calls {
        *heard.entry(call.await.unwrap()).or_default() += 1;
    }
    assert_eq!(heard.len(), 2, "{heard:?}");
    for (said, count) in &heard {
        assert!(
            (50..=150).contains(count) && said.starts_with(MESSAGE),
            "{heard:?}"
        );
    }
}

/// `TestWebSocketWithTimeout`: with shorter times than Knative's.
#[tokio::test(flavor = "multi_thread")]
async fn test_web_socket_with_timeout() {
    let suite = Arc::new(Suite::start().await);
    // Seconds in total, until the function's first byte, and without one; the delay of the echo.
    let cases = [
        ("within", json!({"timeoutSeconds": 30}), 1, true),
        ("beyond", json!({"timeoutSeconds": 2}), 6, false),
        ("starts", json!({"responseStartTimeoutSeconds": 30}), 1, true),
        ("starts-late", json!({"responseStartTimeoutSeconds": 2}), 6, false),
        ("busy", json!({"idleTimeoutSeconds": 30}), 1, true),
        ("idle", json!({"idleTimeoutSeconds": 2}), 6, false),
    ];
    let calls: Vec<_> = cases
        .into_iter()
        .map(|(name, limits, delay, answers)| {
            let suite = Arc::clone(&suite);
            tokio::spawn(async move {
                let mut wanted = server(name, "wsserver");
                let spec = wanted["spec"]["template"]["spec"].as_object_mut().unwrap();
                spec.extend(limits.as_object().unwrap().clone());
                let ready = suite.create_service_ready(&wanted).await;
                let url = text(&ready, "/status/url");
                let heard = echo(&suite, url, &format!("delay={delay}")).await;
                let wanted = answers.then(|| MESSAGE.to_owned());
                assert_eq!(heard, wanted, "{name}");
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

/// `TestDomainMappingWebsocket`
#[tokio::test(flavor = "multi_thread")]
async fn test_domain_mapping_websocket() {
    let suite = Suite::start().await;
    suite.create_service_ready(&server("echo", "wsserver")).await;
    let mapping = "apiVersion: networking.internal.knative.dev/v1alpha1\nkind: ClusterDomainClaim\n\
        metadata: {name: echo.example.com}\nspec: {namespace: default}\n---\n\
        apiVersion: serving.knative.dev/v1beta1\nkind: DomainMapping\nmetadata: {name: echo.example.com}\n\
        spec: {ref: {kind: Service, name: echo, apiVersion: serving.knative.dev/v1}}\n";
    suite.platform.apply_and_wait(mapping).await.unwrap();
    let path = "/apis/serving.knative.dev/v1beta1/namespaces/default/domainmappings/echo.example.com";
    let ready = suite
        .platform
        .until_at(path, crate::suite::is_ready)
        .await
        .unwrap();
    let url = text(&ready, "/status/url");
    assert!(url.starts_with("http://echo.example.com"), "{url}");
    assert_eq!(echo(&suite, url, "").await.as_deref(), Some(MESSAGE));
}
