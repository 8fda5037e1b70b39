//! GET of `/backup`: all objects at one moment, in the form that `kittiwake restore` reads.
//!
//! It is a path of its own and no resource, so that who may read it is said apart: it holds every object of every
//! namespace. Secrets in it are encrypted where the store encrypts them.

use crate::handler::reply;
use crate::server::Server;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;

/// What a backup is (RFC 2046, section 4.5.1: bytes for a program).
const CONTENT_TYPE: &str = "application/octet-stream";

/// Streams a backup. A failure on the way breaks the stream off, and the end that every backup has is missing.
pub(crate) fn handle(server: &Server) -> Response {
    // Between chunks others have their turn: making one is computing, not waiting.
    let chunks = futures::stream::iter(server.store.backup()).then(async |chunk| {
        tokio::task::yield_now().await;
        chunk.map(Bytes::from)
    });
    reply::bytes(200, CONTENT_TYPE, Body::from_stream(chunks))
}
