//! What the look-alikes that listen share: a server of HTTP/1.1 on the sockets of WASI, and of HTTP/2 where a test wants it
//! (Knative's `network.NewServer` is always one of both), on one thread.

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use sockets::{TcpListener, TcpStream};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::task::Poll;

pub mod executor;
#[path = "../../src/info.rs"]
pub mod info;
#[cfg_attr(target_env = "p1", path = "sockets_of_modules.rs")]
#[cfg_attr(target_env = "p2", path = "sockets_of_components.rs")]
mod sockets;
mod stream;
#[path = "../../src/work.rs"]
pub mod work;

/// What is asked.
pub type Request = hyper::Request<Incoming>;
/// What is answered.
pub type Response = hyper::Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The sentence of Knative's `helloworld` and `readiness`.
pub const HELLO_WORLD: &str = "Hello World! How about some tasty noodles?";

/// The port that the platform names.
pub fn port() -> u16 {
    std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}

/// Listens on [`port`] until the program is ended, for HTTP/1.1.
pub fn main<F, A>(handler: F) -> io::Result<()>
where
    F: Fn(Request) -> A + Clone + 'static,
    A: Future<Output = Response> + 'static,
{
    executor::run(async { listen(port(), handler).await })
}

/// The same for HTTP/1.1 and HTTP/2, whichever a client begins with.
pub fn main_with_http2<F, A>(handler: F) -> io::Result<()>
where
    F: Fn(Request) -> A + Clone + 'static,
    A: Future<Output = Response> + 'static,
{
    executor::run(accept_all(port(), move |stream| {
        let handler = handler.clone();
        let service = service_fn(move |request| infallible(handler(request)));
        async {
            let connection = auto::Builder::new(executor::Spawner);
            connection.serve_connection_with_upgrades(stream, service).await.map_err(|error| error.to_string())
        }
    }))
}

/// Answers every HTTP/1.1 request that comes to a port.
pub async fn listen<F, A>(port: u16, handler: F)
where
    F: Fn(Request) -> A + Clone + 'static,
    A: Future<Output = Response> + 'static,
{
    accept_all(port, move |stream| {
        let handler = handler.clone();
        let service = service_fn(move |request| infallible(handler(request)));
        async {
            let connection = http1::Builder::new().serve_connection(stream, service);
            connection.with_upgrades().await.map_err(|error| error.to_string())
        }
    })
    .await;
}

async fn infallible<T>(answer: impl Future<Output = T>) -> Result<T, Infallible> {
    Ok(answer.await)
}

/// Serves every connection to a port in a task of its own.
async fn accept_all<S>(port: u16, serve: impl Fn(stream::Stream) -> S + 'static)
where
    S: Future<Output = Result<(), String>> + 'static,
{
    let listener = TcpListener::bind(("0.0.0.0", port), true).expect("the port can be listened on");
    println!("Listening on port {port}");
    loop {
        let serving = serve(stream::Stream::new(accept(&listener).await));
        executor::spawn(async {
            if let Err(error) = serving.await {
                println!("A connection broke: {error}");
            }
        });
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    poll_fn(|cx| match listener.accept(true) {
        Ok((stream, _)) => Poll::Ready(stream),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            executor::wake_when(listener.as_raw_fd(), executor::Direction::Read, cx);
            Poll::Pending
        }
        Err(error) => panic!("no connection can be taken: {error}"),
    })
    .await
}

/// A short answer.
pub fn text(status: u16, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("the status is one");
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer whose body comes piece by piece.
pub fn pieces(frames: impl Stream<Item = Frame<Bytes>> + Send + 'static) -> Response {
    use futures_util::StreamExt as _;
    Response::new(StreamBody::new(frames.map(Ok)).boxed_unsync())
}

/// A value of the query, as it is.
pub fn query<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let pairs = request.uri().query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Whether the platform asks, as the kubelet does.
pub fn is_probe(request: &Request) -> bool {
    let agent = request.headers().get("user-agent").and_then(|agent| agent.to_str().ok());
    agent.is_some_and(|agent| agent.starts_with("kube-probe/"))
}

/// A variable that says yes, as Go's `strconv.ParseBool` reads it.
pub fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| ["1", "t", "T", "true", "TRUE", "True"].contains(&value.as_str()))
}
