//! Going on with another protocol: `Upgrade` of HTTP/1.1 (RFC 9110 §7.8), and WebSockets over HTTP/2, whose extended
//! CONNECT (RFC 8441) reaches the function as the same `Upgrade`.
//!
//! From the function's 101 on, bytes are carried both ways as they come, each way until its own end. The call goes on
//! meanwhile: it is in flight, a drain waits for it, for a while, and the revision's limits end it: `timeoutSeconds`,
//! `idleTimeoutSeconds` without a byte, and `responseStartTimeoutSeconds` when the function has sent none by then. (Knative's
//! queue-proxy does not see what is carried: there each of the three ends it, counted from its beginning.)

use crate::connection::Connection;
use crate::metrics::UpgradeMetrics;
use crate::proxy::Gateway;
use crate::proxy::call::Call;
use base64::Engine as _;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use kittiwake_core::clock::Clock;
use prometheus::IntCounter;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that are carried at a time, each way.
const PIECE_BYTES: usize = 8 * 1024;
/// `Connection: Upgrade`, as everyone spells it.
const CONNECTION_UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");

/// What a client asks for.
pub(crate) struct Wanted {
    client: OnUpgrade,
    protocol: HeaderValue,
    /// By extended CONNECT, which can be answered with the new protocol or with an error, and nothing else.
    pub(crate) is_connect: bool,
}

/// Takes the wish out of a request. An extended CONNECT becomes the GET that it would be in HTTP/1.1.
pub(crate) fn take<B>(request: &mut Request<B>) -> Option<Wanted> {
    if request.method() == Method::CONNECT {
        let protocol = request.extensions_mut().remove::<Protocol>()?;
        let client = request.extensions_mut().remove::<OnUpgrade>()?;
        let protocol = HeaderValue::from_str(protocol.as_str()).ok()?;
        *request.method_mut() = Method::GET;
        return Some(Wanted {
            client,
            protocol,
            is_connect: true,
        });
    }
    if !request.headers().contains_key(UPGRADE) {
        return None;
    }
    let client = request.extensions_mut().remove::<OnUpgrade>()?;
    Some(Wanted {
        client,
        protocol: protocol(request.headers())?,
        is_connect: false,
    })
}

/// The protocols that an HTTP/1.1 request names, if it means this connection. HTTP/2 is not entered this way: that was
/// taken out of the standard (RFC 9113 §3.1), and a server may ignore any `Upgrade`.
fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_meant = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(UPGRADE)?;
    let is_http2 = protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
    (is_meant && !is_http2).then(|| protocol.clone())
}

impl Wanted {
    /// Puts the wish into the headers that the function sees.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, CONNECTION_UPGRADE);
        headers.insert(UPGRADE, self.protocol.clone());
        if self.is_connect && !headers.contains_key(SEC_WEBSOCKET_KEY) {
            // HTTP/2 has none; HTTP/1.1 servers insist (RFC 6455 §4.2.1).
            let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>());
            if let Ok(key) = HeaderValue::try_from(key) {
                headers.insert(SEC_WEBSOCKET_KEY, key);
            }
        }
    }
}

/// Says in an HTTP/1.1 answer which protocol the function chose, in place of what is about one connection only.
pub(crate) fn confirm(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, CONNECTION_UPGRADE);
    headers.insert(UPGRADE, protocol);
}

/// Carries bytes between client and function until both are done or a limit ends it. Begins once the client has the
/// head of the answer.
pub(crate) fn join(
    gateway: &Gateway,
    connection: &Arc<Connection>,
    wanted: Wanted,
    function: OnUpgrade,
    call: Call,
) {
    let limits = &call.target.revision.limits;
    let (time_left, idle) = (limits.timeout.saturating_sub(call.age()), limits.idle_timeout);
    let start_left = limits
        .response_start_timeout
        .map(|limit| limit.saturating_sub(call.age()));
    let (quiet, end_max) = (gateway.config.upgraded_quiet, gateway.config.upgraded_end_max);
    let carried = Carried {
        clock: Arc::clone(&gateway.clock),
        last: AtomicU64::new(0),
        answered: AtomicBool::new(false),
        metrics: gateway.metrics.upgrade.clone(),
    };
    let drain = gateway.drain.clone();
    // The connection keeps its place, although HTTP is over on it.
    let connection = Arc::clone(connection);
    gateway.drain.tasks.spawn(async move {
        let _open = carried.metrics.open();
        carried.note();
        let ending = async {
            drain.stop.cancelled().await;
            tokio::select! {
                () = carried.silence(quiet) => {}
                () = tokio::time::sleep(end_max) => {}
            }
        };
        let idle = async {
            match idle {
                Some(limit) => carried.silence(limit).await,
                None => std::future::pending().await,
            }
        };
        let late = async {
            match start_left {
                Some(left) => carried.no_answer_within(left).await,
                None => std::future::pending().await,
            }
        };
        let both = async {
            let (client, function) = tokio::try_join!(wanted.client, function).map_err(io::Error::other)?;
            carried.both_ways(client, function).await
        };
        tokio::select! {
            ended = both => if let Err(error) = ended {
                tracing::debug!(peer = %connection.peer, error = &error as &dyn std::error::Error, "an upgraded connection broke");
            },
            () = tokio::time::sleep(time_left) => {}
            () = idle => {}
            () = late => {}
            () = ending => {}
            () = drain.cut.cancelled() => {}
        }
        drop((connection, call));
    });
}

/// What was carried, and when last.
struct Carried {
    clock: Arc<dyn Clock>,
    /// Milliseconds of the clock.
    last: AtomicU64,
    /// Whether the function has sent anything.
    answered: AtomicBool,
    metrics: UpgradeMetrics,
}

impl Carried {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Resolves when nothing was carried for `limit`.
    async fn silence(&self, limit: Duration) {
        loop {
            let silent = Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)));
            match limit.checked_sub(silent) {
                None | Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
            }
        }
    }

    /// Resolves after `left` when the function has sent nothing by then.
    async fn no_answer_within(&self, left: Duration) {
        tokio::time::sleep(left).await;
        if self.answered.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    async fn both_ways(&self, client: Upgraded, function: Upgraded) -> io::Result<()> {
        let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
        let (from_function, to_function) = tokio::io::split(TokioIo::new(function));
        tokio::try_join!(
            self.one_way(from_client, to_function, &self.metrics.received, None),
            self.one_way(from_function, to_client, &self.metrics.sent, Some(&self.answered)),
        )?;
        Ok(())
    }

    /// Carries until `from` ends, and says so to `to`; the other way may go on.
    async fn one_way(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        bytes: &IntCounter,
        any: Option<&AtomicBool>,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = from.read(&mut piece).await?;
            let Some(read) = piece.get(..length).filter(|read| !read.is_empty()) else {
                return to.shutdown().await;
            };
            if let Some(any) = any {
                any.store(true, Ordering::Relaxed);
            }
            to.write_all(read).await?;
            to.flush().await?;
            self.note();
            bytes.inc_by(u64::try_from(length).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(connection: &'static str, upgrade: &'static str) -> Option<HeaderValue> {
        let headers = [
            (CONNECTION, HeaderValue::from_static(connection)),
            (UPGRADE, HeaderValue::from_static(upgrade)),
        ];
        protocol(&headers.into_iter().collect())
    }

    #[test]
    fn only_an_upgrade_of_this_connection_counts() {
        for (connection, upgrade, wanted) in [
            ("Upgrade", "websocket", true),
            ("keep-alive, upgrade", "a, b/1", true),
            ("keep-alive", "websocket", false),
            ("Upgrade, HTTP2-Settings", "h2c", false),
        ] {
            assert_eq!(
                asked(connection, upgrade).is_some(),
                wanted,
                "{connection} {upgrade}"
            );
        }
    }
}
