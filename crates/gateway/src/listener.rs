//! Connections: accept, speak HTTP/1.1 or HTTP/2 as the client does, limit, end.

use crate::config::{Config, HEADER_BYTES_MIN};
use crate::drain::Ending;
use crate::proxy::Gateway;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// Ends an HTTP/1.1 connection after the answer that has it.
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Pause after the system refused a connection (out of file descriptors), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the gateway drains or is shut down, and ends when the last connection has.
pub(crate) async fn serve(gateway: Arc<Gateway>, listener: TcpListener, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(
        gateway.config.connections_max.clamp(1, Semaphore::MAX_PERMITS),
    ));
    let protocol = Arc::new(protocol(&gateway.config));
    let drain = gateway.drain.clone();
    // Counts as a task: who waits for the last one must not miss a connection that was accepted a moment ago.
    let accepting = drain.tasks.token();
    let stopped = async {
        tokio::select! {
            () = drain.stop.cancelled() => {}
            () = shutdown.cancelled() => {}
        }
    };
    let mut stopped = pin!(stopped);
    loop {
        let (stream, peer, place) = tokio::select! {
            () = &mut stopped => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let connection = connection(Arc::clone(&gateway), Arc::clone(&protocol), stream, peer, place);
        drain.tasks.spawn(connection);
    }
    drop(listener);
    drop(accepting);
    drain.tasks.close();
    tokio::select! {
        () = drain.tasks.wait() => {}
        () = shutdown.cancelled() => {
            drain.stop();
            drain.cut();
            drain.tasks.wait().await;
        }
    }
    drain.stop();
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            // The semaphore is never closed; waiting is right all the same.
            std::future::pending::<()>().await;
            continue;
        };
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a connection could not be accepted"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only the connection being accepted failed.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// HTTP/1.1 or HTTP/2 with prior knowledge, told apart by the first bytes.
fn protocol(config: &Config) -> auto::Builder<TokioExecutor> {
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
        .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(config.http2_streams_max)
        .keep_alive_interval(config.http2_ping_interval)
        .keep_alive_timeout(config.http2_ping_timeout);
    builder
}

/// One connection, from the first byte to the last.
async fn connection(
    gateway: Arc<Gateway>,
    protocol: Arc<auto::Builder<TokioExecutor>>,
    stream: TcpStream,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    let _counted = gateway.metrics.connection();
    // Answers are small and complete; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let spoke = AtomicBool::new(false);
    let multiplexed = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let one_by_one = request.version() < Version::HTTP_2;
        if !spoke.swap(true, Ordering::Relaxed) {
            multiplexed.store(!one_by_one, Ordering::Relaxed);
        }
        let gateway = Arc::clone(&gateway);
        async move {
            let mut answer = gateway.answer(peer, request).await;
            if one_by_one && gateway.drain.is_ending() {
                answer.headers_mut().insert(CONNECTION, CLOSE);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut serving = pin!(protocol.serve_connection(TokioIo::new(stream), service));
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
        awaiting_first = awaiting_first && !spoke.load(Ordering::Relaxed);
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
            if !linger.is_zero() && !multiplexed.load(Ordering::Relaxed) {
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
