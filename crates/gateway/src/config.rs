//! What an operator can set.

use crate::tls::CertificateFiles;
use kittiwake_core::unit::ByteCount;
use std::time::Duration;

/// How the gateway behaves. Every limit says what happens at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Open connections. At the limit new ones wait in the socket's backlog. Default 131,072.
    pub connections_max: usize,
    /// Size of a request's head. A larger one gets 431. At least 8 KiB. Default 64 KiB.
    pub header_bytes_max: ByteCount,
    /// Header fields of a request. More get 431. Default 100.
    pub headers_max: usize,
    /// Length of a request's path and query, in bytes. A longer one gets 414. Default 32 KiB.
    pub target_bytes_max: ByteCount,
    /// Time for a client to send a complete request head, counted from the connection or from the end of the answer
    /// before, so it also ends idle HTTP/1.1 connections. Then the connection is closed. Default 60 s.
    pub header_read_timeout: Duration,
    /// Longest silence of a client in the midst of its request's body, while the function waits for it and has not
    /// answered. Then the call is ended and answered 408. gRPC calls may be silent for as long as their revision lets
    /// a call take. Zero: no such limit. Default 60 s.
    pub body_idle_timeout: Duration,
    /// Longest time in which a client takes nothing of what waits to be sent to it. Then its connection is closed, and
    /// the calls on it end. Zero: no such limit. Default 60 s.
    pub write_stall_timeout: Duration,
    /// Time for a TLS handshake. Then the connection is closed. Default 10 s.
    pub tls_handshake_timeout: Duration,
    /// Calls that the client of an HTTP/2 connection may take back before they are answered; at the limit the connection
    /// is closed if these are more than half of its calls. Default 500.
    pub http2_resets_max: u32,
    /// Silence after which an upgraded connection (a WebSocket) is closed once the gateway drains. Default 10 s.
    pub upgraded_quiet: Duration,
    /// Longest time that an upgraded connection lives on once the gateway drains. Default 60 s, as queue-proxy's.
    pub upgraded_end_max: Duration,
    /// Certificates in files. The first one is for clients that name no host, or one without a certificate.
    pub certificates: Vec<CertificateFiles>,
    /// The port in the URLs that redirects lead to. `None`: that of the socket with TLS, or 443 where there is none.
    pub https_port: Option<u16>,
    /// Concurrent calls of one HTTP/2 connection; the client waits before it opens more. Default 250.
    pub http2_streams_max: u32,
    /// Silence after which an HTTP/2 client is asked whether it is still there. Default 30 s.
    pub http2_ping_interval: Duration,
    /// Time to answer that, after which the connection is closed. Default 20 s.
    pub http2_ping_timeout: Duration,
    /// The `Retry-After` of a 503 where no revision is ready; whole seconds, at least 1. Default 1 s.
    pub unready_retry_after: Duration,
    /// Revisions that left the routing table and keep their metric series for a while, so that what they counted since
    /// the last scrape is not lost; at the limit the one that left first loses them. Default 256.
    pub series_lingering_max: usize,
    /// Calls of one revision that may run at a time; a few more of all together. More wait. Default 10,000.
    pub calls_max: usize,
    /// Calls of all revisions that may wait for room or for a first instance, besides the limit that each revision has.
    /// At the limit a revision that has its fair share of them is refused (503). Default 50,000.
    pub waiting_max: usize,
    /// Writes one log record per call (target [`ACCESS_LOG`]). Default off.
    pub access_log: bool,
    /// Counts and times each call in the metrics of its revision. Default on.
    pub request_metrics: bool,
}

/// The target of the records of calls.
pub const ACCESS_LOG: &str = "access";

/// Smallest head that the HTTP library can be limited to, in bytes.
pub(crate) const HEADER_BYTES_MIN: usize = 8 * 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            connections_max: 131_072,
            header_bytes_max: ByteCount::kib(64),
            headers_max: 100,
            target_bytes_max: ByteCount::kib(32),
            header_read_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(60),
            tls_handshake_timeout: Duration::from_secs(10),
            http2_resets_max: 500,
            upgraded_quiet: Duration::from_secs(10),
            upgraded_end_max: Duration::from_secs(60),
            certificates: Vec::new(),
            https_port: None,
            http2_streams_max: 250,
            http2_ping_interval: Duration::from_secs(30),
            http2_ping_timeout: Duration::from_secs(20),
            unready_retry_after: Duration::from_secs(1),
            series_lingering_max: 256,
            calls_max: 10_000,
            waiting_max: 50_000,
            access_log: false,
            request_metrics: true,
        }
    }
}
