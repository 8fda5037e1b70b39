//! Connections to one instance: in memory, kept open from call to call.
//!
//! In HTTP/1.1 a connection serves one call at a time; those that wait for the next are kept, the newest is used first.
//! In HTTP/2 there is one for all.

use super::body::CallBody;
use super::flights::Flight;
use crate::network::pipe::{End, Watch};
use crate::network::{Network, Refused};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kittiwake_core::revision::{Protocol, RevisionSpec};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use super::request;

/// Connections that wait for a call; one that becomes free beyond it is closed.
const IDLE_MAX: usize = 256;
/// Header fields of an answer (a server that Knative runs may send as many as Go reads; hyper's own limit is 100).
const HEADERS_MAX: usize = 512;

/// See the module's documentation.
pub(crate) struct Connections {
    network: Arc<Network>,
    port: u16,
    protocol: Protocol,
    idle: Mutex<Vec<Http1>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<CallBody>>>,
}

/// What a call is sent with.
pub(crate) enum Sender {
    /// A connection of its own.
    Http1(Http1),
    /// A part of the one.
    Http2(http2::SendRequest<CallBody>),
}

/// A connection for one call at a time. It is closed when this is dropped.
pub(crate) struct Http1 {
    sender: http1::SendRequest<CallBody>,
    task: Option<AbortHandle>,
    held: Held,
    watch: Watch,
    /// Whether it served a call before.
    pub reused: bool,
}

impl Http1 {
    /// Whether the guest has not closed it.
    fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.watch.is_ended()
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// A call that lives as long as the connection, because it has become something else than HTTP.
type Held = Arc<Mutex<Option<Flight>>>;

/// The platform's end of a connection.
struct Io {
    end: End,
    _held: Held,
}

/// Why a connection could not be made or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The instance does not take connections.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What came is not the protocol.
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// A request that was not answered, with the request if nothing of it was sent.
pub(crate) struct NotSent {
    pub error: hyper::Error,
    pub request: Option<http::Request<CallBody>>,
}

impl Connections {
    /// None yet.
    pub(crate) fn new(network: Arc<Network>, revision: &RevisionSpec) -> Self {
        Self {
            network,
            port: revision.port,
            protocol: revision.protocol,
            idle: Mutex::default(),
            shared: tokio::sync::Mutex::default(),
        }
    }

    /// A connection for a call: one that waits, or a new one.
    pub(crate) async fn get(&self) -> Result<Sender, ConnectionError> {
        if self.network.is_closed() {
            // Its connections may be there a moment longer.
            return Err(Refused::Ended.into());
        }
        match self.protocol {
            Protocol::Http1 => {
                let waiting = {
                    let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    idle.retain(Http1::is_open);
                    idle.iter()
                        .rposition(|connection| connection.sender.is_ready())
                        .map(|index| idle.swap_remove(index))
                };
                match waiting {
                    Some(mut connection) => {
                        connection.reused = true;
                        Ok(Sender::Http1(connection))
                    }
                    None => self.open().await,
                }
            }
            Protocol::H2c => self.open().await,
        }
    }

    /// A connection that no call used before.
    pub(crate) async fn open(&self) -> Result<Sender, ConnectionError> {
        if self.protocol == Protocol::Http1 {
            let connection = http1_connection(self.network.connect(self.port).await?).await?;
            return Ok(Sender::Http1(connection));
        }
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(Sender::Http2(sender.clone()));
        }
        let sender = http2_connection(self.network.connect(self.port).await?).await?;
        *shared = Some(sender.clone());
        Ok(Sender::Http2(sender))
    }

    /// Takes back a connection whose call has ended well.
    pub(crate) fn give_back(&self, sender: Sender) {
        if let Sender::Http1(connection) = sender
            && connection.is_open()
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
    }
}

impl Sender {
    /// Whether the connection had served a call before.
    pub(crate) fn is_reused(&self) -> bool {
        matches!(self, Self::Http1(connection) if connection.reused)
    }

    /// Sends a request; resolves when the head of the answer is known.
    pub(crate) async fn send(
        &mut self,
        request: http::Request<CallBody>,
    ) -> Result<http::Response<Incoming>, Box<NotSent>> {
        let sent = match self {
            Self::Http1(connection) => connection.sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            Box::new(NotSent {
                request: error.take_message(),
                error: error.into_error(),
            })
        })
    }

    /// Lets the connection live on as something else than HTTP, and the call with it.
    pub(crate) fn let_go(self, flight: Flight) {
        if let Self::Http1(mut connection) = self {
            // Its task hands over the connection and ends.
            connection.task = None;
            *connection.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(flight);
        }
    }
}

async fn http1_connection(end: End) -> Result<Http1, hyper::Error> {
    let (held, watch) = (Held::default(), end.watch());
    let io = Io {
        end,
        _held: Arc::clone(&held),
    };
    let (sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(io))
        .await?;
    // What goes wrong with it is told to the call.
    let task = tokio::spawn(async move { drop(connection.with_upgrades().await) });
    Ok(Http1 {
        sender,
        task: Some(task.abort_handle()),
        held,
        watch,
        reused: false,
    })
}

async fn http2_connection<B>(end: End) -> Result<http2::SendRequest<B>, hyper::Error>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<kittiwake_core::body::BodyError>,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .adaptive_window(false)
        .handshake(TokioIo::new(end))
        .await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// One request over a connection of its own.
pub(crate) async fn once(
    network: &Network,
    port: u16,
    protocol: Protocol,
    request: http::Request<Full<Bytes>>,
) -> Result<http::Response<Incoming>, String> {
    let (mut parts, body) = request.into_parts();
    request::prepare(&mut parts, protocol);
    let request = http::Request::from_parts(parts, body);
    let end = network.connect(port).await.map_err(|error| error.to_string())?;
    let answered = match protocol {
        Protocol::Http1 => {
            let made = http1::handshake(TokioIo::new(end)).await;
            let (mut sender, connection) = made.map_err(|error| error.to_string())?;
            tokio::spawn(async move { drop(connection.await) });
            sender.send_request(request).await
        }
        Protocol::H2c => {
            let made = http2_connection(end).await;
            made.map_err(|error| error.to_string())?
                .send_request(request)
                .await
        }
    };
    answered.map_err(|error| error.to_string())
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.end), cx, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.end), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.end).poll_shutdown(cx)
    }
}
