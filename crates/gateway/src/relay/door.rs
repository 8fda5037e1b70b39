//! The door by which other processes pass calls on to this one.

use super::wire::{GREETING, HEAD_BYTES_MAX, HEADERS_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX, WINDOW_BYTES};
use crate::config::Config;
use crate::connection::Protocol;
use crate::proxy::Gateway;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Pause after the system refused a connection (out of file descriptors), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for the other side to close a connection after it was told that this process ends; then HTTP says so.
const LEAVE_MAX: Duration = Duration::from_secs(5);
/// Calls that a connection's other side may take back before they were looked at: all that fit on it. A limit against
/// strangers, who do not come in here.
const RESETS_MAX: usize = STREAMS_MAX as usize;

/// Takes connections until the gateway drains or is shut down. Ends at once where there is no door.
pub(crate) async fn serve(gateway: Arc<Gateway>, door: Option<UnixListener>, shutdown: CancellationToken) {
    let Some(door) = door else { return };
    let protocol = Arc::new(protocol(&gateway.config));
    // Counts as a task: who waits for the last one must not miss a connection that was accepted a moment ago.
    let _accepting = gateway.drain.tasks.token();
    loop {
        let accepted = tokio::select! {
            () = gateway.drain.stop.cancelled() => return,
            () = shutdown.cancelled() => return,
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = serve_one(Arc::clone(&gateway), Arc::clone(&protocol), stream);
                gateway.drain.tasks.spawn(serving);
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a connection of another worker could not be accepted"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn protocol(config: &Config) -> Protocol {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(config.http2_ping_interval)
        .keep_alive_timeout(config.http2_ping_timeout);
    builder
}

/// Serves a connection to its end: that of the other side, or after its last call when this process ends.
async fn serve_one(gateway: Arc<Gateway>, protocol: Arc<Protocol>, mut stream: UnixStream) {
    // Who gave up meanwhile is found out below.
    let _ = stream.write_u8(GREETING).await;
    let service = service_fn(|request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, Infallible>(gateway.answer_passed_on(request).await) }
    });
    let mut serving = pin!(protocol.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let leaving = async {
        gateway.drain.stop.cancelled().await;
        tokio::time::sleep(LEAVE_MAX).await;
    };
    let mut leaving = pin!(leaving);
    let mut left = false;
    loop {
        tokio::select! {
            served = &mut serving => {
                if let Err(error) = served {
                    tracing::debug!(error = &*error, "the connection of another worker ended early");
                }
                return;
            }
            () = &mut leaving, if !left => {
                left = true;
                serving.as_mut().graceful_shutdown();
            }
            () = gateway.drain.cut.cancelled() => return,
        }
    }
}
