//! What goes wrong stays where it goes wrong: functions that misbehave and clients that do, through the whole platform.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/program.rs"]
mod program;

use futures::StreamExt;
use futures::stream;
use http::{Method, StatusCode};
use kittiwake_testkit::guest;
use kittiwake_testkit::platform::TestPlatform;
use program::{Up, root};
use rustix::process::{Resource, getrlimit};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A Service; `spec` is more of its template's spec, `container` more of its container, both in YAML's flow style.
fn manifest(name: &str, image: &str, spec: &str, container: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  template:\n    spec: \
         {{{spec} containers: [{{image: '{image}'{container}}}]}}\n---\n"
    )
}

fn autoscale() -> String {
    let module = root().join("guests/knative/servers/autoscale.wasm");
    format!("file://{}", module.display())
}

/// A function that is called all the time beside the others, without a failure.
struct Bystander {
    over: Arc<AtomicBool>,
    calls: tokio::task::JoinHandle<()>,
}

impl Bystander {
    async fn deploy(platform: &Arc<TestPlatform>) -> Self {
        let image = platform.image("hello.wasm", &guest::hello()).unwrap();
        let host = platform.deploy("bystander", &image).await.unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (platform, until) = (Arc::clone(platform), Arc::clone(&over));
        let calls = tokio::spawn(async move {
            while !until.load(Ordering::Relaxed) {
                let answer = platform.get(&host, "/").await.unwrap();
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { over, calls }
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.calls.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_misbehaves_spoils_one_call() {
    let platform = Arc::new(TestPlatform::start().await.unwrap());
    let bystander = Bystander::deploy(&platform).await;
    let image = platform.image("server.wasm", &guest::server()).unwrap();
    let yaml = manifest("faulty", &image, "", ", resources: {limits: {memory: 32Mi}}");
    let host = platform.deploy_yaml("faulty", &yaml).await.unwrap();
    let next_is_answered = async |after: &str| {
        let answer = platform.get(&host, "/").await.unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (StatusCode::OK, "hello"),
            "after {after}"
        );
    };
    // Traps, ends, takes memory to its limit, closes, sends what is no HTTP: nothing of an answer has come.
    for path in ["/t", "/m", "/e", "/c", "/g"] {
        let answer = platform.get(&host, path).await.unwrap();
        assert_eq!(
            answer.status,
            StatusCode::BAD_GATEWAY,
            "{path}: {}",
            answer.text()
        );
        next_is_answered(path).await;
    }
    // Traps and closes in the midst of its answer: the client can tell that it is not whole.
    for path in ["/p", "/h"] {
        let cut = platform.get(&host, path).await;
        assert!(cut.is_err(), "{path}: {cut:?}");
        next_is_answered(path).await;
    }
    bystander.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_replaced_when_its_liveness_probe_says_so() {
    let platform = Arc::new(TestPlatform::start().await.unwrap());
    let bystander = Bystander::deploy(&platform).await;
    let probe =
        ", livenessProbe: {httpGet: {path: /}, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 2}";
    let yaml = manifest("hangs", &autoscale(), "timeoutSeconds: 2,", probe);
    let host = platform.deploy_yaml("hangs", &yaml).await.unwrap();
    let lost = platform.get(&host, "/?loop").await.unwrap();
    assert!(
        [StatusCode::GATEWAY_TIMEOUT, StatusCode::BAD_GATEWAY].contains(&lost.status),
        "{}",
        lost.text()
    );
    let answered = tokio::time::timeout(kittiwake_testkit::platform::PATIENCE, async {
        while platform.get(&host, "/?sleep=1").await.unwrap().status != StatusCode::OK {}
    });
    answered.await.unwrap();
    bystander.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_the_midst_of_its_body_gives_its_place_back() {
    let platform = Arc::new(TestPlatform::start().await.unwrap());
    let component = platform.image("echo.wasm", &guest::echo()).unwrap();
    // One call at a time, and one instance: a place that is not given back would be missed.
    let one = "containerConcurrency: 1,";
    let yaml = manifest("stays", &autoscale(), one, "") + &manifest("percall", &component, one, "");
    let yaml = yaml.replace(
        "  template:\n",
        "  template:\n    metadata: {annotations: {autoscaling.knative.dev/max-scale: '1'}}\n",
    );
    platform.deploy_yaml("stays", &yaml).await.unwrap();
    for name in ["stays", "percall"] {
        let host = platform.host(name);
        for _ in 0..20 {
            let mut client = TcpStream::connect(platform.gateway()).await.unwrap();
            let part = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\nsome of it");
            client.write_all(part.as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            drop(client);
        }
        let answer = platform.call(Method::POST, &host, "/", "whole").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{name}: {}", answer.text());
    }
}

/// Connections that nobody uses, as many as the limit of open files allows and 10,000 at most.
const IDLE_MAX: u64 = 10_000;
/// Files of either process that are no connections.
const FILES_OTHERS: u64 = 1_000;
/// Connections that are opened at a time.
const OPENING: usize = 64;

/// Calls over a connection that stays open.
async fn call(connection: &mut TcpStream, host: &str) {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // With a length or in chunks.
    let ends: [&[u8]; 2] = [b"\r\n\r\nHello from WebAssembly!\n", b"\r\n0\r\n\r\n"];
    while !ends.iter().any(|end| answer.ends_with(end)) {
        let mut part = [0; 1024];
        let count = connection.read(&mut part).await.unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..count]);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn ten_thousand_idle_connections_are_in_nobodys_way() {
    kittiwake::host_limits::raise_open_files();
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(IDLE_MAX.min(files.saturating_sub(FILES_OTHERS))).unwrap();
    let up = Up::start(&[]);
    let image = up.folder.path().join("hello.wasm");
    std::fs::write(&image, guest::hello()).unwrap();
    let file = up.folder.path().join("service.yaml");
    std::fs::write(
        &file,
        manifest("hello", &format!("file://{}", image.display()), "", ""),
    )
    .unwrap();
    up.ok(&["apply", "-f", &file.display().to_string()]);
    let gateway: SocketAddr = up.address("Functions").parse().unwrap();
    let host = "hello.default.localhost";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        // Each was used once: it is kept, not just accepted. The gateway ends those that are idle for a minute, so
        // none is expected to last.
        let opening = stream::iter(0..count).map(|_| async {
            let mut connection = TcpStream::connect(gateway).await.unwrap();
            call(&mut connection, host).await;
            connection
        });
        let mut idle: Vec<TcpStream> = opening.buffer_unordered(OPENING).collect().await;
        assert_eq!(idle.len(), count);
        let mut another = TcpStream::connect(gateway).await.unwrap();
        for _ in 0..10 {
            call(&mut another, host).await;
        }
        // The newest of the idle ones is as good.
        call(idle.last_mut().unwrap(), host).await;
    });
}
