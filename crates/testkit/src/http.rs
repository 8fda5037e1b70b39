//! A small HTTP client for tests: the host of the URL goes into the `Host` header, the connection to a given address.

use ::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, read to its end.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends one request over a connection of its own and reads the whole answer.
///
/// # Errors
/// When the connection or the answer breaks.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let (head, body) = open(address, request).await?.into_parts();
    let body = body.collect().await.context("the body broke off")?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// Sends one request over HTTP/1.1 and returns as soon as the head of the answer is there.
///
/// # Errors
/// When the connection breaks before.
pub async fn open<B>(address: SocketAddr, request: Request<B>) -> anyhow::Result<Response<Incoming>>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(sender.send_request(request).await?)
}

/// Sends one request over HTTP/2 with prior knowledge (h2c).
///
/// # Errors
/// When the connection breaks before the head of the answer.
pub async fn open_h2c(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(sender.send_request(request).await?)
}

/// A request to `path` of the virtual host `host`.
#[must_use]
pub fn request(method: Method, host: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    if let Ok(uri) = path.parse() {
        *request.uri_mut() = uri;
    }
    if let Ok(host) = host.parse() {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}
