//! The connections of one function to servers, kept for its next requests: HTTP/2 where the server chose it in the
//! handshake of TLS, HTTP/1.1 otherwise.

use super::World;
use super::body::RequestBody;
use super::connector::Connector;
use super::error::Failure;
use super::{Instant, Network, RequestOptions, SILENCE_MAX};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{self, Client as Pool};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kittiwake_core::outbound::Outbound;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout_at;

/// How long a connection waits for the next request.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Connections to one server that wait.
const IDLE_PER_SERVER_MAX: usize = 32;
/// Bytes of the head of a response, by HTTP/1.1.
const HEAD_BYTES_MAX: usize = 128 * 1024;
/// The same by HTTP/2, which counts them decoded.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;

/// Clones share the connections.
#[derive(Clone)]
pub(super) struct Client(Pool<Connector, RequestBody>);

impl Client {
    /// One without connections, which will be to servers of this list only, and to those in its `own` network.
    pub(super) fn new(outbound: Outbound, world: &Arc<World>, own: Option<&Arc<Network>>) -> Self {
        let pool = legacy::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_PER_SERVER_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
            // wasmtime's has set it.
            .set_host(false)
            .build(Connector::new(outbound, world, own));
        Self(pool)
    }

    /// Sends a request on a connection that is there, or on a new one that must be made until `connected_by`.
    pub(super) async fn send(
        &self,
        mut request: http::Request<RequestBody>,
        options: &RequestOptions,
        connected_by: Instant,
    ) -> Result<http::Response<Incoming>, Failure> {
        let mut connection = capture_connection(&mut request);
        let mut answer = pin!(self.0.request(request));
        let connected = async { drop(connection.wait_for_connection_metadata().await) };
        tokio::select! {
            biased;
            answer = &mut answer => return answer.map_err(Failure::from),
            connected = timeout_at(connected_by, connected) => {
                connected.map_err(|_| Failure::NotConnectedInTime)?;
            }
        }
        let patience = options.first_byte_timeout.unwrap_or(SILENCE_MAX);
        let answer = tokio::time::timeout(patience, answer).await;
        answer.map_err(|_| Failure::Silent)?.map_err(Failure::from)
    }
}
