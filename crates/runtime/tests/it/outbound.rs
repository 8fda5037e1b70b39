//! What functions reach by `wasi:http`: the servers that their template names, within limits, and other functions.
//!
//! The guest is the look-alike of Knative's `httpproxy`; its source tells what its environment means. That of WASI 0.3 is the
//! example `concurrent`.

use crate::support::{Rig, pieces, text};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use kittiwake_core::body::{self, Body};
use kittiwake_core::inside::{CallInside, HOPS_MAX, Hops, Inside};
use kittiwake_core::invoke::{Invoke, InvokeError};
use kittiwake_core::log::LogStream;
use kittiwake_core::revision::{Isolation, Limits, RevisionKey, RevisionSpec};
use kittiwake_runtime::Runtime;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PROXY: &[u8] = include_bytes!("../../../../guests/knative/httpproxy.wasm");
const GUEST_0_3: &[u8] = include_bytes!("../../../../examples/concurrent/concurrent.wasm");

/// A server on loopback, and how many connections it has accepted.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Echoes bodies; at other paths it is silent before or in the middle of its answer.
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, connections }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }
}

async fn serve(stream: tokio::net::TcpStream) {
    use hyper::service::service_fn;
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let forever = std::future::pending::<Option<(Result<_, kittiwake_core::body::BodyError>, ())>>;
        let broken = move |first: &'static str| {
            let first = futures::stream::iter([Ok(http_body::Frame::data(Bytes::from(first)))]);
            let rest = futures::stream::unfold((), move |()| forever());
            http_body_util::StreamBody::new(futures::StreamExt::chain(first, rest)).boxed_unsync()
        };
        let host = request.headers()["host"].clone();
        let body: Body = match request.uri().path() {
            "/never" => std::future::pending().await,
            "/half" => broken("half"),
            _ => request.into_body().map_err(Into::into).boxed_unsync(),
        };
        let response = http::Response::builder().header("x-host", host).body(body);
        Ok::<_, std::convert::Infallible>(response.unwrap())
    });
    let io = hyper_util::rt::TokioIo::new(stream);
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(io, service)
        .await;
}

async fn deploy(rig: &Rig, target: &str, allowed: &str) -> Arc<RevisionSpec> {
    deploy_with(rig, target, allowed, &[]).await
}

async fn deploy_with(rig: &Rig, target: &str, allowed: &str, env: &[(&str, &str)]) -> Arc<RevisionSpec> {
    let revision = RevisionSpec::clone(&*rig.deploy(PROXY, Limits::default()).await);
    let named = [("TARGET_HOST", target)];
    let env = env.iter().chain(&named);
    Arc::new(RevisionSpec {
        env: env.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        outbound: allowed.parse().unwrap(),
        ..revision
    })
}

async fn send(
    runtime: &Runtime,
    revision: &Arc<RevisionSpec>,
    path: &str,
    body: Body,
) -> Result<http::Response<Body>, InvokeError> {
    let request = http::Request::post(path).header("host", "fn.localhost");
    runtime
        .invoke(Arc::clone(revision), request.body(body).unwrap())
        .await
}

async fn answer(rig: &Rig, revision: &Arc<RevisionSpec>, path: &str) -> (u16, String) {
    let response = send(&rig.runtime, revision, path, body::full("ping"))
        .await
        .unwrap();
    (response.status().as_u16(), text(response).await)
}

fn platform_log(rig: &Rig) -> String {
    rig.log(LogStream::Platform)
}

#[tokio::test]
async fn nothing_is_reached_that_no_entry_names() {
    let (rig, server) = (Rig::new(), Server::start().await);
    let port = server.port();
    let target = format!("127.0.0.1:{port}");
    for allowed in [
        "",
        "127.0.0.1:1",
        "api.example.com:443",
        "*",
        &format!("10.0.0.0/8:{port}"),
    ] {
        let revision = deploy(&rig, &target, allowed).await;
        let (status, text) = answer(&rig, &revision, "/").await;
        assert_eq!(
            (status, text.as_str()),
            (502, "ErrorCode::HttpRequestDenied"),
            "{allowed}"
        );
    }
    let log = platform_log(&rig);
    let line = format!(
        "outbound HTTP to {target} was denied: name it in the annotation kittiwake.dev/allowed-outbound of the template"
    );
    assert!(log.contains(&line), "{log}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_named_is_reached_and_its_connection_is_kept() {
    let (rig, server) = (Rig::new(), Server::start().await);
    let target = format!("127.0.0.1:{}", server.port());
    let revision = deploy(&rig, &target, &target).await;
    for _ in 0..3 {
        let response = send(&rig.runtime, &revision, "/a?b=c", body::full("ping"))
            .await
            .unwrap();
        assert_eq!(response.headers()["x-host"], target.as_str());
        assert_eq!(text(response).await, "ping");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    // Another function has connections of its own, and none at all where its list names nobody.
    let other = |allowed: &str| {
        Arc::new(RevisionSpec {
            key: RevisionKey::new("default", "other"),
            uid: format!("other {allowed}").into(),
            outbound: allowed.parse().unwrap(),
            ..RevisionSpec::clone(&revision)
        })
    };
    assert_eq!(answer(&rig, &other(&target), "/").await.0, 200);
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    assert_eq!(answer(&rig, &other(""), "/").await.0, 502);
    // The list of the same function was changed.
    let closed = Arc::new(RevisionSpec {
        outbound: "".parse().unwrap(),
        ..RevisionSpec::clone(&revision)
    });
    assert_eq!(answer(&rig, &closed, "/").await.0, 502);
}

#[tokio::test]
async fn a_name_is_not_enough_for_an_address_of_this_machine() {
    let (rig, server) = (Rig::new(), Server::start().await);
    let target = format!("localhost:{}", server.port());
    let near = deploy(&rig, &target, &format!("*:{}", server.port())).await;
    assert_eq!(
        answer(&rig, &near, "/").await,
        (502, "ErrorCode::DestinationIpProhibited".to_owned())
    );
    let log = platform_log(&rig);
    assert!(
        log.contains("was denied: the name has the address 127.0.0.1"),
        "{log}"
    );
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    let named = deploy(&rig, &target, &target).await;
    assert_eq!(answer(&rig, &named, "/").await, (200, "ping".to_owned()));
    let unknown = deploy(&rig, "nowhere.invalid:80", "*.invalid:80").await;
    let (status, text) = answer(&rig, &unknown, "/").await;
    assert!(
        status == 502 && text.starts_with("ErrorCode::DnsError"),
        "{status} {text}"
    );
}

#[tokio::test]
async fn servers_are_waited_for_as_long_as_the_guest_says() {
    let (rig, server) = (Rig::new(), Server::start().await);
    let target = format!("127.0.0.1:{}", server.port());
    let times = [
        ("FIRST_BYTE_TIMEOUT", "100ms"),
        ("BETWEEN_BYTES_TIMEOUT", "100ms"),
    ];
    let patient = deploy_with(&rig, &target, &target, &times).await;
    assert_eq!(
        answer(&rig, &patient, "/never").await,
        (502, "ErrorCode::ConnectionReadTimeout".to_owned())
    );
    let response = send(&rig.runtime, &patient, "/half", body::empty())
        .await
        .unwrap();
    assert!(
        response.into_body().collect().await.is_err(),
        "the proxy breaks off as its server did"
    );
    // It accepts, and says nothing in the handshake.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let url = format!("https://{target}");
    let quick = deploy_with(&rig, &url, &target, &[("CONNECT_TIMEOUT", "100ms")]).await;
    assert_eq!(
        answer(&rig, &quick, "/").await,
        (502, "ErrorCode::ConnectionTimeout".to_owned())
    );
    drop(silent);
    let refused = deploy(&rig, &target, &target).await;
    assert_eq!(
        answer(&rig, &refused, "/").await,
        (502, "ErrorCode::ConnectionRefused".to_owned())
    );
}

#[tokio::test]
async fn the_time_limit_of_a_call_ends_what_it_asked_for() {
    let (rig, server) = (Rig::new(), Server::start().await);
    let target = format!("127.0.0.1:{}", server.port());
    let revision = deploy(&rig, &target, &target).await;
    let mut revision = RevisionSpec::clone(&revision);
    revision.limits.timeout = Duration::from_millis(200);
    let failed = send(&rig.runtime, &Arc::new(revision), "/never", body::empty()).await;
    assert!(matches!(failed, Err(InvokeError::TimedOut)), "{failed:?}");
}

#[tokio::test]
async fn large_bodies_stream_both_ways_at_once() {
    let (rig, server) = (Rig::new(), Server::start().await);
    let target = format!("127.0.0.1:{}", server.port());
    let proxy = deploy(&rig, &target, &target).await;
    let service = rig.deploy_as("service", GUEST_0_3).await;
    let service = Arc::new(RevisionSpec {
        outbound: target.parse().unwrap(),
        ..RevisionSpec::clone(&service)
    });
    let parts: Vec<Bytes> = (0..128_u8).map(|n| Bytes::from(vec![n; 65_536])).collect();
    let sent = parts.concat();
    let forward = format!("/forward?to={target}");
    for (revision, path) in [(&proxy, "/"), (&service, forward.as_str())] {
        let response = send(&rig.runtime, revision, path, pieces(parts.clone(), None))
            .await
            .unwrap();
        let received = response.into_body().collect().await.unwrap().to_bytes();
        assert!(received == sent, "{path}: {} bytes", received.len());
    }
}

#[tokio::test]
async fn services_of_wasi_0_3_are_held_to_the_same_list() {
    let (rig, server) = (Rig::new(), Server::start().await);
    let service = rig.deploy(GUEST_0_3, Limits::default()).await;
    let target = format!("127.0.0.1:{}", server.port());
    let path = format!("/forward?to={target}");
    let denied = send(&rig.runtime, &service, &path, body::empty()).await;
    let text_of = format!("{:?}", denied.err().unwrap());
    assert!(text_of.contains("HttpRequestDenied"), "{text_of}");
    assert!(platform_log(&rig).contains("kittiwake.dev/allowed-outbound"));
    let allowed = Arc::new(RevisionSpec {
        outbound: target.parse().unwrap(),
        isolation: Isolation::Concurrent,
        ..RevisionSpec::clone(&service)
    });
    let response = send(&rig.runtime, &allowed, &path, body::full("ping")).await;
    assert_eq!(text(response.unwrap()).await, "ping");
}

#[tokio::test]
async fn servers_that_nobody_vouches_for_are_refused() {
    let rig = Rig::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&sent);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes).await;
                received.lock().unwrap().extend(bytes);
                let _ = stream.shutdown().await;
            }
        }
    });
    let revision = deploy(&rig, &format!("https://{target}"), &target).await;
    // A machine without any authority refuses too, with another code.
    let (status, text) = answer(&rig, &revision, "/secret").await;
    assert_eq!(status, 502);
    let codes = ["ErrorCode::TlsCertificateError", "ErrorCode::ConfigurationError"];
    assert!(codes.contains(&text.as_str()), "{text}");
    let log = platform_log(&rig);
    assert!(
        log.contains(&format!("outbound HTTP to {target} failed: ")),
        "{log}"
    );
    assert!(sent.lock().unwrap().is_empty(), "nothing was sent to it");
}

/// Has a function of the runtime answer, whichever host is called.
struct Loop {
    runtime: OnceLock<Weak<Runtime>>,
    revision: OnceLock<Arc<RevisionSpec>>,
    hops: Mutex<Vec<u32>>,
}

impl CallInside for Loop {
    fn answers(&self, host: &str, _: u16) -> bool {
        host.starts_with("self.default")
    }

    fn call(self: Arc<Self>, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>> {
        Box::pin(async move {
            self.hops.lock().unwrap().push(Hops::of(&request).0);
            let runtime = self.runtime.get().unwrap().upgrade().unwrap();
            let revision = Arc::clone(self.revision.get().unwrap());
            runtime.invoke(revision, request).await.unwrap()
        })
    }
}

#[tokio::test]
async fn functions_that_call_themselves_are_stopped() {
    let inside = Inside::default();
    let rig = Rig::inside(inside.clone(), |config| config.instances_max = 64);
    let callee = Arc::new(Loop {
        runtime: OnceLock::from(Arc::downgrade(&rig.runtime)),
        revision: OnceLock::new(),
        hops: Mutex::default(),
    });
    let open: Arc<dyn CallInside> = Arc::clone(&callee) as _;
    inside.open(&open);
    // Short names are allowed by the entry of the long ones.
    let revision = deploy(&rig, "self.default", "*.svc.cluster.local:80").await;
    callee.revision.set(Arc::clone(&revision)).unwrap();
    assert_eq!(
        answer(&rig, &revision, "/").await,
        (502, "ErrorCode::LoopDetected".to_owned())
    );
    let all: Vec<u32> = (1..=HOPS_MAX).collect();
    assert_eq!(*callee.hops.lock().unwrap(), all);
    let log = platform_log(&rig);
    assert!(
        log.contains("outbound HTTP to self.default:80 was denied") && log.contains("look for a loop"),
        "{log}"
    );
    let denied = deploy(&rig, "self.default", "other.default.svc.cluster.local:80").await;
    assert_eq!(
        answer(&rig, &denied, "/").await,
        (502, "ErrorCode::HttpRequestDenied".to_owned())
    );
}
