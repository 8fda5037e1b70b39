//! One connection, from its first byte to its last: HTTP/1.1 or HTTP/2 as the client speaks, limited and ended.

use crate::config::{Config, HEADER_BYTES_MIN};
use crate::drain::Ending;
use crate::guarded_io::GuardedIo;
use crate::metrics::Counted;
use crate::proxy::Gateway;
use crate::proxy::called::LastCalled;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

/// Ends an HTTP/1.1 connection after the answer that has it.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// How connections are spoken to.
pub(crate) type Protocol = auto::Builder<TokioExecutor>;

/// What is known of a connection. It has a place among all connections for as long as this lives.
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    /// Whether it came with TLS.
    pub(crate) is_secure: bool,
    /// Whether it may call hosts that are only for those inside.
    pub(crate) is_inside: bool,
    /// The host that the last request was for.
    pub(crate) last_called: LastCalled,
    /// Whether a request came.
    spoke: AtomicBool,
    /// Whether it speaks HTTP/2.
    multiplexed: AtomicBool,
    /// Calls that began, of HTTP/2.
    calls: AtomicU32,
    /// Those of them that the client took back before they had an answer.
    taken_back: AtomicU32,
    /// `None` where there is no socket.
    _taken: Option<(Counted, OwnedSemaphorePermit)>,
}

impl Connection {
    pub(crate) fn new(
        peer: SocketAddr,
        is_secure: bool,
        is_inside: bool,
        counted: Counted,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            peer,
            is_secure,
            is_inside,
            last_called: LastCalled::default(),
            spoke: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            calls: AtomicU32::new(0),
            taken_back: AtomicU32::new(0),
            _taken: Some((counted, place)),
        }
    }

    /// What a function of this process is to another one that it calls.
    pub(crate) fn inside(is_secure: bool) -> Self {
        Self {
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            is_secure,
            is_inside: true,
            last_called: LastCalled::default(),
            spoke: AtomicBool::new(true),
            multiplexed: AtomicBool::new(false),
            calls: AtomicU32::new(0),
            taken_back: AtomicU32::new(0),
            _taken: None,
        }
    }

    /// Whether the client opens calls only to reset them (CVE-2023-44487): at least `resets_max`, and more than half of
    /// all. Envoy judges alike (`overload.premature_reset_total_stream_count`).
    fn is_flooding(&self, resets_max: u32) -> bool {
        let taken_back = self.taken_back.load(Ordering::Relaxed);
        taken_back >= resets_max && taken_back > self.calls.load(Ordering::Relaxed) / 2
    }
}

/// Counts a call that is dropped before it is answered.
struct Unanswered<'a>(Option<&'a Connection>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            connection.taken_back.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// HTTP/1.1 or HTTP/2, told apart by the first bytes, whatever was agreed on with TLS.
pub(crate) fn protocol(config: &Config) -> Protocol {
    let header_bytes_max = config.header_bytes_max.as_usize().max(HEADER_BYTES_MIN);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_read_timeout)
        .max_buf_size(header_bytes_max)
        .max_headers(config.headers_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(config.http2_streams_max)
        .keep_alive_interval(config.http2_ping_interval)
        .keep_alive_timeout(config.http2_ping_timeout);
    builder
}

/// Serves a connection to its end. What it was upgraded to goes on in a task of its own.
pub(crate) async fn serve<I>(gateway: Arc<Gateway>, protocol: Arc<Protocol>, io: I, connection: Connection)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(connection);
    let peer = connection.peer;
    let service = service_fn(|request: Request<Incoming>| {
        let one_by_one = request.version() < Version::HTTP_2;
        if !connection.spoke.swap(true, Ordering::Relaxed) {
            connection.multiplexed.store(!one_by_one, Ordering::Relaxed);
        }
        let (gateway, connection) = (Arc::clone(&gateway), Arc::clone(&connection));
        async move {
            let mut unanswered = Unanswered(None);
            if !one_by_one {
                connection.calls.fetch_add(1, Ordering::Relaxed);
                unanswered.0 = Some(&connection);
            }
            let mut answer = gateway.answer(&connection, request).await;
            unanswered.0 = None;
            if one_by_one && gateway.drain.is_ending() && !answer.headers().contains_key(CONNECTION) {
                answer.headers_mut().insert(CONNECTION, CLOSE);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let io = TokioIo::new(GuardedIo::new(io, gateway.config.write_stall_timeout));
    let mut serving = pin!(protocol.serve_connection_with_upgrades(io, service));
    // The HTTP library's own timer begins when it knows the protocol; this one covers a client that never says.
    let mut first_request = pin!(tokio::time::sleep(gateway.config.header_read_timeout));
    let mut signals = gateway.drain.signals();
    let mut awaiting_first = true;
    let mut last_request: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(served) = serving.as_mut().poll(cx) {
            if let Err(error) = served {
                tracing::debug!(%peer, error = &*error, "a connection ended early");
            }
            return Poll::Ready(());
        }
        if connection.is_flooding(gateway.config.http2_resets_max) {
            tracing::debug!(%peer, "a connection that takes back most of its calls was closed");
            return Poll::Ready(());
        }
        awaiting_first = awaiting_first && !connection.spoke.load(Ordering::Relaxed);
        if awaiting_first && first_request.as_mut().poll(cx).is_ready() {
            tracing::debug!(%peer, "a connection that sent no request was closed");
            return Poll::Ready(());
        }
        while let Poll::Ready(ending) = signals.poll(cx) {
            if ending == Ending::Now {
                return Poll::Ready(());
            }
            // HTTP/2 has a message for this; HTTP/1.1 has only the next answer.
            let linger = gateway.drain.linger();
            if !linger.is_zero() && !connection.multiplexed.load(Ordering::Relaxed) {
                last_request = Some(Box::pin(tokio::time::sleep(linger)));
                continue;
            }
            serving.as_mut().graceful_shutdown();
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        if last_request
            .as_mut()
            .is_some_and(|wait| wait.as_mut().poll(cx).is_ready())
        {
            last_request = None;
            serving.as_mut().graceful_shutdown();
            return serving.as_mut().poll(cx).map(|_| ());
        }
        Poll::Pending
    })
    .await;
}
