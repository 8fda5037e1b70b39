//! `test/e2e/grpc_test.go`: gRPC through the gateway, one message or many on one call, and how it scales.

use crate::suite::{Suite, annotate, container, server, server_image, split, text};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kittiwake_testkit::platform::PATIENCE;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The message of `ping.proto`, a text as field 1, as gRPC frames it.
fn message(text: &str) -> Bytes {
    let length = u8::try_from(text.len()).unwrap();
    let mut bytes = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    bytes.extend(text.bytes());
    bytes.into()
}

/// The text of one framed message.
fn text_of(framed: &[u8]) -> String {
    assert_eq!(framed[..4], [0; 4]);
    assert_eq!(usize::from(framed[4]), framed.len() - 5);
    if framed.len() == 5 {
        return String::new();
    }
    assert_eq!((framed[5], usize::from(framed[6])), (0x0a, framed.len() - 7));
    String::from_utf8(framed[7..].to_vec()).unwrap()
}

/// Calls a method over a connection of its own.
async fn call<B>(suite: &Suite, url: &str, method: &str, body: B) -> hyper::Response<Incoming>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(suite.platform.gateway()).await.unwrap();
    let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, driver) = made.unwrap();
    tokio::spawn(driver);
    let (host, _) = split(url);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{host}/ping.PingService/{method}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(body)
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/grpc");
    response
}

/// One ping and its pong.
async fn ping(suite: &Suite, url: &str, said: &str) -> String {
    let body = call(suite, url, "Ping", Full::new(message(said)))
        .await
        .into_body();
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    text_of(&collected.to_bytes())
}

/// Three pings on one call, each sent after the pong before it.
async fn ping_stream(suite: &Suite, url: &str) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let frames = futures::stream::unfold(receiver, |mut receiver| async {
        let bytes = receiver.recv().await?;
        Some((Ok(Frame::data(bytes)), receiver))
    });
    let body = StreamBody::new(frames.boxed());
    // Without a first message there would be nothing to answer to.
    sender.send(message("This is a short message!")).await.unwrap();
    let mut answer = call(suite, url, "PingStream", body).await.into_body();
    for pongs in 1..=3 {
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(text_of(frame.data_ref().unwrap()), "This is a short message!");
        if pongs < 3 {
            sender.send(message("This is a short message!")).await.unwrap();
        }
    }
    drop(sender);
    let end = answer.frame().await.unwrap().unwrap();
    assert_eq!(end.trailers_ref().unwrap()["grpc-status"], "0");
    assert!(answer.frame().await.is_none());
}

/// The Service of the suite's tests, changed, and its URL.
async fn deploy(suite: &Suite, change: impl Fn(&mut Value)) -> String {
    let mut wanted = server("pinger", "grpc-ping");
    container(&mut wanted)["ports"] = json!([{"name": "h2c", "containerPort": 8080}]);
    change(&mut wanted);
    let ready = suite.create_service_ready(&wanted).await;
    let url = text(&ready, "/status/url").to_owned();
    assert_eq!(suite.get(&url).await.status, StatusCode::OK);
    url
}

/// The component that listens through `wasi:sockets`, in place of the module.
fn as_component(service: &mut Value) {
    container(service)["image"] = server_image("components/grpc-ping").into();
}

fn via_activator(service: &mut Value) {
    annotate(service, "autoscaling.knative.dev/target-burst-capacity", "-1");
}

/// Never without the activator, and with an instance for each call and a half.
fn scaled_by_single_calls(service: &mut Value) {
    via_activator(service);
    annotate(
        service,
        "autoscaling.knative.dev/target-utilization-percentage",
        "70",
    );
    annotate(service, "autoscaling.knative.dev/target", "1");
}

/// `TestGRPCUnaryPing`
#[tokio::test(flavor = "multi_thread")]
async fn test_grpc_unary_ping() {
    let suite = Suite::start().await;
    let url = deploy(&suite, |_| {}).await;
    assert_eq!(ping(&suite, &url, "Hello!").await, "Hello!");
}

/// `TestGRPCStreamingPing`
#[tokio::test(flavor = "multi_thread")]
async fn test_grpc_streaming_ping() {
    let suite = Suite::start().await;
    let url = deploy(&suite, |_| {}).await;
    tokio::time::timeout(PATIENCE, ping_stream(&suite, &url))
        .await
        .unwrap();
}

/// `TestGRPCUnaryPingViaActivator`
#[tokio::test(flavor = "multi_thread")]
async fn test_grpc_unary_ping_via_activator() {
    let suite = Suite::start().await;
    let url = deploy(&suite, via_activator).await;
    assert_eq!(ping(&suite, &url, "Hello!").await, "Hello!");
}

/// `TestGRPCStreamingPingViaActivator`
#[tokio::test(flavor = "multi_thread")]
async fn test_grpc_streaming_ping_via_activator() {
    let suite = Suite::start().await;
    let url = deploy(&suite, via_activator).await;
    tokio::time::timeout(PATIENCE, ping_stream(&suite, &url))
        .await
        .unwrap();
}

/// The same of a component: what it is, one message and many, past the activator and through it.
#[tokio::test(flavor = "multi_thread")]
async fn test_grpc_of_a_component() {
    let suite = Suite::start().await;
    let direct = deploy(&suite, as_component).await;
    let revision = suite.object("revisions", "pinger-00001").await;
    assert_eq!(revision["status"]["annotations"]["kittiwake.dev/kind"], "server");
    let proxied = deploy(&suite, |service| {
        service["metadata"]["name"] = "proxied".into();
        as_component(service);
        via_activator(service);
    })
    .await;
    for url in [direct, proxied] {
        assert_eq!(ping(&suite, &url, "Hello!").await, "Hello!");
        let long = "x".repeat(100);
        let pings = (0..20).map(|_| ping(&suite, &url, &long));
        for pong in futures::future::join_all(pings).await {
            assert_eq!(pong, long);
        }
        tokio::time::timeout(PATIENCE, ping_stream(&suite, &url))
            .await
            .unwrap();
    }
}

/// Two callers until there are two instances, and no more than Knative's test allows. One that fails fails the test.
async fn until_two_instances(suite: &Arc<Suite>, url: &str) {
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..2 {
        let (suite, url, over) = (Arc::clone(suite), url.to_owned(), Arc::clone(&over));
        callers.spawn(async move {
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let said = format!("Hello! stream:{caller} request: {number}");
                assert_eq!(ping(&suite, &url, &said).await, said);
            }
        });
    }
    let scaled = suite.until("podautoscalers", "pinger-00001", |object| {
        object["status"]["actualScale"].as_i64() >= Some(2)
    });
    let scaled = tokio::select! {
        scaled = scaled => scaled,
        Some(ended) = callers.join_next() => {
            ended.unwrap();
            panic!("a caller ended by itself");
        }
    };
    let most = (2.0_f64 / 0.7).ceil() as i64 + 1;
    assert!(
        scaled["status"]["desiredScale"].as_i64().unwrap() <= most,
        "{scaled:#}"
    );
    over.store(true, Ordering::Relaxed);
    callers.join_all().await;
}

/// `TestGRPCAutoscaleUpDownUp`
#[tokio::test(flavor = "multi_thread")]
async fn test_grpc_autoscale_up_down_up() {
    let suite = Arc::new(Suite::start().await);
    let settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler, namespace: knative-serving}\n\
        data: {scale-to-zero-grace-period: 1s}\n";
    suite.platform.apply(settings).await.unwrap();
    let url = deploy(&suite, |service| {
        scaled_by_single_calls(service);
        annotate(service, "autoscaling.knative.dev/window", "10s");
        // Long beside what a caller needs between two calls on a busy machine; Knative's is 500.
        container(service)["env"] = json!([{"name": "DELAY", "value": "2000"}]);
    })
    .await;
    until_two_instances(&suite, &url).await;
    let at_zero = |object: &Value| {
        let status = &object["status"];
        [&status["actualScale"], &status["desiredScale"]]
            .iter()
            .all(|scale| scale.as_i64().unwrap_or(0) == 0)
    };
    suite.until("podautoscalers", "pinger-00001", at_zero).await;
    until_two_instances(&suite, &url).await;
}

/// `TestGRPCLoadBalancing`
#[tokio::test(flavor = "multi_thread")]
async fn test_grpc_load_balancing() {
    let suite = Arc::new(Suite::start().await);
    let url = deploy(&suite, |service| {
        scaled_by_single_calls(service);
        annotate(service, "autoscaling.knative.dev/min-scale", "3");
        container(service)["env"] = json!([{"name": "HOSTNAME", "value": "true"}]);
    })
    .await;
    let hosts = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        let (suite, url, hosts) = (Arc::clone(&suite), url.clone(), Arc::clone(&hosts));
        callers.spawn(async move {
            while hosts.lock().unwrap().len() < 3 {
                let heard = ping(&suite, &url, "hello-").await;
                let host = heard.strip_prefix("hello-").unwrap();
                assert!(!host.is_empty());
                hosts.lock().unwrap().insert(host.to_owned());
            }
        });
    }
    tokio::time::timeout(PATIENCE, callers.join_all()).await.unwrap();
    assert!(hosts.lock().unwrap().len() >= 3);
}
