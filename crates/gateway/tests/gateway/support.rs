//! A gateway on port 0, a scripted function behind it, and clients that speak raw HTTP.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::body::{self, Body};
use kittiwake_core::clock::SystemClock;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::invoke::{CallReport, Invoke, InvokeError};
use kittiwake_core::log::LogHub;
use kittiwake_core::resident::NoResidents;
use kittiwake_core::revision::{Limits, RevisionKey, RevisionSpec};
use kittiwake_core::routing_table::{RouteEntry, RouteTarget, RoutingTable};
use kittiwake_core::unit::ByteCount;
use kittiwake_gateway::acme::Issued;
use kittiwake_gateway::{ActivatorInputs, BuildError, Config, Handle, Inputs, Listeners, Neighbours, build};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Host of a route with one ready revision, `hello-00001`.
pub const HELLO: &str = "hello.default.localhost";
/// Largest body that revisions of the tests take.
pub const BODY_BYTES_MAX: u64 = 1000;

/// What happens to calls of `/hang`.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Started,
    Dropped,
    /// The request's body ended with an error.
    Broken,
}

/// Answers by the request's path.
pub struct Function {
    pub calls: AtomicUsize,
    seen: mpsc::Sender<Seen>,
}

struct Dropped(mpsc::Sender<Seen>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.try_send(Seen::Dropped);
    }
}

impl Invoke for Function {
    fn invoke(
        &self,
        revision: Arc<RevisionSpec>,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, InvokeError>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let seen = self.seen.clone();
        Box::pin(async move {
            let mut answer = answer(&revision, request, seen).await?;
            let report = CallReport {
                cold_start: Some(Duration::from_micros(250)),
                queued: Duration::ZERO,
                instantiated: Duration::from_micros(20),
                reused: false,
            };
            answer.extensions_mut().insert(report);
            Ok(answer)
        })
    }
}

async fn answer(
    revision: &RevisionSpec,
    request: Request<Body>,
    seen: mpsc::Sender<Seen>,
) -> Result<Response<Body>, InvokeError> {
    let text = |status: u16, text: String| {
        Ok(Response::builder()
            .status(status)
            .header("x-by", &*revision.key.name)
            .body(body::full(text))
            .unwrap())
    };
    match request.uri().path() {
        "/echo" => {
            let mut answer = Response::new(request.into_body());
            answer.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            Ok(answer)
        }
        "/grpc.Echo/Call" => {
            let end = [
                (http::HeaderName::from_static("grpc-status"), "0"),
                (http::HeaderName::from_static("x-sum"), "42"),
            ];
            let end = end.map(|(name, value)| (name, http::HeaderValue::from_static(value)));
            let end = futures::stream::iter([Ok(http_body::Frame::trailers(end.into_iter().collect()))]);
            let messages = http_body_util::BodyStream::new(request.into_body());
            let messages = futures::StreamExt::chain(messages, end);
            let mut answer = Response::new(http_body_util::StreamBody::new(messages).boxed_unsync());
            answer
                .headers_mut()
                .insert("content-type", "application/grpc".parse().unwrap());
            Ok(answer)
        }
        "/collect" => {
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            Ok(Response::new(body::full(bytes)))
        }
        "/whole" => {
            let body = request.into_body().collect().await;
            let body =
                body.map_err(|error| InvokeError::Trapped(format!("the request ended early: {error}")))?;
            text(200, format!("{} bytes", body.to_bytes().len()))
        }
        "/head" => {
            let lines = request
                .headers()
                .iter()
                .map(|(n, v)| format!("{n}: {}\n", v.to_str().unwrap_or("?")));
            text(
                200,
                format!(
                    "{} {}\n{}",
                    request.method(),
                    request.uri(),
                    lines.collect::<String>()
                ),
            )
        }
        "/hop" => Ok(Response::builder()
            .header("connection", "close, x-private")
            .header("x-private", "1")
            .header("keep-alive", "timeout=1")
            .header("x-public", "1")
            .body(body::full("hop"))
            .unwrap()),
        "/teapot" => text(418, "short and stout".into()),
        "/204" => Ok(Response::builder()
            .status(204)
            .header("content-length", "5")
            .body(body::full("extra"))
            .unwrap()),
        "/304" => Ok(Response::builder()
            .status(304)
            .header("etag", "\"a\"")
            .body(body::full("extra"))
            .unwrap()),
        "/trap" => Err(InvokeError::Trapped("secret backtrace".into())),
        "/timeout" => Err(InvokeError::TimedOut),
        "/none" => Err(InvokeError::NoResponse),
        "/large" => Err(InvokeError::BodyTooLarge),
        "/busy" => Err(InvokeError::Overloaded {
            retry_after: Duration::from_secs(7),
        }),
        "/missing" => Err(PrepareError::new(ErrorCode::ArtifactNotFound, "there is no such image").into()),
        "/internal" => Err(InvokeError::Internal("secret".into())),
        "/flood" => {
            let guard = Dropped(seen.clone());
            seen.send(Seen::Started).await.unwrap();
            let frames = futures::stream::unfold(guard, |guard| async move {
                let frame = http_body::Frame::data(Bytes::from_static(&[0; 64 * 1024]));
                Some((Ok::<_, body::BodyError>(frame), guard))
            });
            Ok(Response::new(
                http_body_util::StreamBody::new(frames).boxed_unsync(),
            ))
        }
        "/read" => {
            seen.send(Seen::Started).await.unwrap();
            if request.into_body().collect().await.is_err() {
                seen.send(Seen::Broken).await.unwrap();
            }
            text(200, "read".into())
        }
        path if path.starts_with("/switch") => crate::switching::call(request).await,
        "/hang" => {
            let _guard = Dropped(seen.clone());
            seen.send(Seen::Started).await.unwrap();
            std::future::pending().await
        }
        "/late" | "/late-announced" => {
            let late: body::BodyError = body::TimeLimitPassed::Total.into();
            let frames = [
                Ok(http_body::Frame::data(Bytes::from_static(b"first"))),
                Err(late),
            ];
            let stream = http_body_util::StreamBody::new(futures::stream::iter(frames));
            let mut answer = Response::new(stream.boxed_unsync());
            if request.uri().path() == "/late-announced" {
                answer.headers_mut().insert("content-length", 9.into());
                *answer.body_mut() =
                    Announced(std::mem::replace(answer.body_mut(), body::empty())).boxed_unsync();
            }
            Ok(answer)
        }
        "/hang-body" => {
            let guard = Dropped(seen.clone());
            seen.send(Seen::Started).await.unwrap();
            let frames = futures::stream::unfold((0u8, guard), |(n, guard)| async move {
                if n > 0 {
                    std::future::pending::<()>().await;
                }
                let frame = http_body::Frame::data(Bytes::from_static(b"first"));
                Some((Ok::<_, body::BodyError>(frame), (n + 1, guard)))
            });
            Ok(Response::new(
                http_body_util::StreamBody::new(frames).boxed_unsync(),
            ))
        }
        _ => text(200, revision.key.name.to_string()),
    }
}

/// A body that says that it has 9 bytes.
struct Announced(Body);

impl http_body::Body for Announced {
    type Data = Bytes;
    type Error = body::BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, body::BodyError>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(9)
    }
}

/// One running gateway.
pub struct Server {
    pub handle: Handle,
    pub task: JoinHandle<()>,
    pub routes: watch::Sender<Arc<RoutingTable>>,
    pub registry: prometheus::Registry,
    pub logs: Arc<LogHub>,
    pub function: Arc<Function>,
    pub seen: mpsc::Receiver<Seen>,
    pub shutdown: CancellationToken,
    pub inside: kittiwake_core::inside::Inside,
}

pub fn revision(name: &str) -> Arc<RevisionSpec> {
    Arc::new(RevisionSpec {
        service: "hello".into(),
        configuration: "hello".into(),
        limits: Limits {
            request_body: ByteCount(BODY_BYTES_MAX),
            ..Limits::default()
        },
        ..RevisionSpec::new(
            RevisionKey::new("default", name),
            format!("uid-{name}"),
            "file:///hello.wasm@sha256:0",
        )
    })
}

pub fn entry(targets: &[(&str, u32)], unready: Option<&str>) -> Arc<RouteEntry> {
    let target = |(name, percent): &(&str, u32)| RouteTarget {
        revision: revision(name),
        percent: *percent,
    };
    Arc::new(RouteEntry {
        namespace: "default".into(),
        name: "hello".into(),
        targets: targets.iter().map(target).collect(),
        unready: unready.map(Into::into),
        ..RouteEntry::default()
    })
}

pub fn table(entries: Vec<(&str, Arc<RouteEntry>)>) -> Arc<RoutingTable> {
    let mut table = RoutingTable::default();
    for (host, entry) in entries {
        assert!(table.insert(host, entry));
    }
    Arc::new(table)
}

/// The routes of most tests: [`HELLO`], a split host and one that is not ready.
pub fn routes() -> Vec<(&'static str, Arc<RouteEntry>)> {
    vec![
        (HELLO, entry(&[("hello-00001", 100)], None)),
        (
            "split.default.localhost",
            entry(&[("hello-00001", 10), ("hello-00002", 90)], None),
        ),
        (
            "unready.default.localhost",
            entry(&[], Some("Revision \"hello-00001\" failed: no such image")),
        ),
    ]
}

/// A gateway with [`routes`].
pub fn start() -> Server {
    start_with(Config::default())
}

pub fn start_with(config: Config) -> Server {
    start_on(config, table(routes()), Listeners::default())
}

/// A free port on loopback.
pub fn bind() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

pub fn start_on(config: Config, routes: Arc<RoutingTable>, also: Listeners) -> Server {
    try_start(bind(), config, routes, also).unwrap()
}

pub fn try_start(
    listener: std::net::TcpListener,
    config: Config,
    routes: Arc<RoutingTable>,
    also: Listeners,
) -> Result<Server, BuildError> {
    // Nothing is issued: the sender may go.
    let (_, issued) = watch::channel(Arc::default());
    try_start_issued(listener, config, routes, also, issued)
}

pub fn start_over(config: Config, routes: Arc<RoutingTable>, activator: ActivatorInputs) -> Server {
    let (_, issued) = watch::channel(Arc::default());
    try_start_over(
        bind(),
        config,
        routes,
        Listeners::default(),
        issued,
        activator,
        None,
    )
    .unwrap()
}

/// One of several gateways that pass calls on to one another.
pub fn start_joined(
    config: Config,
    routes: Arc<RoutingTable>,
    activator: ActivatorInputs,
    neighbours: Neighbours,
) -> Server {
    let (_, issued) = watch::channel(Arc::default());
    let also = Listeners::default();
    try_start_over(bind(), config, routes, also, issued, activator, Some(neighbours)).unwrap()
}

pub fn try_start_issued(
    listener: std::net::TcpListener,
    config: Config,
    routes: Arc<RoutingTable>,
    also: Listeners,
    issued: watch::Receiver<Arc<Issued>>,
) -> Result<Server, BuildError> {
    let activator = ActivatorInputs {
        residents: Arc::new(NoResidents),
        scale: watch::channel(Arc::default()).1,
        stats: kittiwake_core::scale::channel().0,
        instances: Arc::default(),
        process: 0,
    };
    try_start_over(listener, config, routes, also, issued, activator, None)
}

fn try_start_over(
    listener: std::net::TcpListener,
    config: Config,
    routes: Arc<RoutingTable>,
    also: Listeners,
    issued: watch::Receiver<Arc<Issued>>,
    activator: ActivatorInputs,
    neighbours: Option<Neighbours>,
) -> Result<Server, BuildError> {
    let (seen_sender, seen) = mpsc::channel(64);
    let function = Arc::new(Function {
        calls: AtomicUsize::new(0),
        seen: seen_sender,
    });
    let (routes, receiver) = watch::channel(routes);
    let (registry, shutdown) = (prometheus::Registry::new(), CancellationToken::new());
    let inside = kittiwake_core::inside::Inside::default();
    let logs = Arc::new(LogHub::new(Arc::new(SystemClock::new())));
    let inputs = Inputs {
        listener,
        also,
        issued,
        routes: receiver,
        invoke: Arc::clone(&function) as Arc<dyn Invoke>,
        activator,
        neighbours,
        registry: registry.clone(),
        clock: Arc::new(SystemClock::new()),
        inside: inside.clone(),
        logs: Arc::clone(&logs),
        shutdown: shutdown.clone(),
    };
    let (handle, task) = build(config, inputs)?;
    Ok(Server {
        handle,
        task: tokio::spawn(task),
        routes,
        registry,
        logs,
        function,
        seen,
        shutdown,
        inside,
    })
}

impl Server {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.handle.local_addr()).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads until the server closes it.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        // A server that refuses early may close before it took everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// `GET path` at `host`, over HTTP/1.1.
    pub async fn get(&self, host: &str, path: &str) -> String {
        self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    /// An HTTP/2 connection with prior knowledge.
    pub async fn http2(&self) -> hyper::client::conn::http2::SendRequest<Body> {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }

    /// An HTTP/1.1 connection.
    pub async fn http1(&self) -> hyper::client::conn::http1::SendRequest<Body> {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Waits until the metrics have this line.
    pub async fn until_metric(&self, line: &str) {
        while !self.metrics().contains(line) {
            tokio::task::yield_now().await;
        }
    }

    pub fn metrics(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap()
    }
}

/// Reads from the connection until what was read ends with `end`.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = stream
            .read_u8()
            .await
            .unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&read)));
        read.push(byte);
    }
    String::from_utf8(read).unwrap()
}

pub fn request(uri: &str, body: Body) -> Request<Body> {
    let method = if uri.contains("/echo") { "POST" } else { "GET" };
    let host = uri
        .parse::<http::Uri>()
        .unwrap()
        .authority()
        .map(ToString::to_string);
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(host) = host {
        request = request.header("host", host);
    }
    request.body(body).unwrap()
}

pub async fn text(answer: Response<hyper::body::Incoming>) -> (StatusCode, String) {
    let status = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}
