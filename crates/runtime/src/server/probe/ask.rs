//! One question to an instance, over its own network. Whether it accepts connections is known without making one, which
//! would disturb a guest that handles one connection after the other.

use crate::network::Network;
use crate::server::connection;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use kittiwake_core::revision::Protocol;
use std::sync::Arc;

/// Answers that are read at most, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Whether something listens on a port.
pub(super) fn tcp(network: &Network, port: u16) -> Result<(), String> {
    if network.listening().contains(&port) {
        return Ok(());
    }
    Err(format!("nothing listens on port {port}"))
}

/// A GET, which has to be answered with 200 to 399.
pub(super) async fn http(
    network: &Arc<Network>,
    port: u16,
    protocol: Protocol,
    path: &str,
    headers: &[(String, String)],
) -> Result<(), String> {
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let mut request = http::Request::get(path)
        .header(http::header::USER_AGENT, "kube-probe/1.33")
        .header(http::header::ACCEPT, "*/*");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header(http::header::HOST, format!("localhost:{port}"));
    }
    let request = request
        .body(Full::new(Bytes::new()))
        .map_err(|error| error.to_string())?;
    let answer = connection::once(network, port, protocol, request).await?;
    let status = answer.status();
    // Read to its end, so that the guest is not cut off.
    let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    if (200..400).contains(&status.as_u16()) {
        return Ok(());
    }
    Err(format!("it answered with status {}", status.as_u16()))
}

/// The health protocol of gRPC (`grpc/grpc/doc/health-checking.md`).
pub(super) async fn grpc(network: &Arc<Network>, port: u16, service: &str) -> Result<(), String> {
    let request = http::Request::post("/grpc.health.v1.Health/Check")
        .header(http::header::HOST, format!("localhost:{port}"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(Full::new(health_question(service)))
        .map_err(|error| error.to_string())?;
    let answer = connection::once(network, port, Protocol::H2c, request).await?;
    let in_head = answer.headers().get("grpc-status").cloned();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| error.to_string())?;
    let in_trailers = body
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"))
        .cloned();
    let status = in_trailers.or(in_head);
    if status.as_ref().is_none_or(|status| status != "0") {
        return Err(format!("it answered with gRPC status {status:?}"));
    }
    match health_answer(&body.to_bytes()) {
        Some(SERVING) => Ok(()),
        other => Err(format!("it answered with health {other:?}, not SERVING")),
    }
}

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;
/// Length of what stands before a message of gRPC: a flag and the message's length.
const PREFIX_BYTES: usize = 5;

/// A `HealthCheckRequest` with its prefix.
fn health_question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// The status of a `HealthCheckResponse`, which is all that it has.
fn health_answer(framed: &[u8]) -> Option<u8> {
    match framed.get(PREFIX_BYTES..)? {
        [] => Some(0),
        [0x08, status, ..] => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_protocol_is_written_and_read() {
        assert_eq!(health_question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(health_question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(health_question(&"x".repeat(200))[5..8], [0x0a, 0xc8, 1]);
        assert_eq!(health_answer(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(health_answer(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(health_answer(&[0, 0]), None);
    }
}
