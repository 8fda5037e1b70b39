//! GET of `/backup`: all objects at one moment, in the form that `kittiwake restore` reads.
//!
//! It is a path of its own and no resource, so that who may read it is said apart: it holds every object of every
//! namespace. Secrets in it are encrypted where the store encrypts them.

use crate::handler::reply;
use crate::server::Server;
use axum::response::Response;

/// What a backup is (RFC 2046, section 4.5.1: bytes for a program).
const CONTENT_TYPE: &str = "application/octet-stream";

/// Streams a backup. A failure on the way breaks the stream off, and the end that every backup has is missing.
pub(crate) fn handle(server: &Server) -> Response {
    reply::bytes(200, CONTENT_TYPE, reply::in_turns(server.store.backup()))
}
