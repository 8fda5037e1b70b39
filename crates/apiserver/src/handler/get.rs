//! GET of one object.

use crate::handler::{Call, reply};
use crate::server::Server;
use crate::status::ApiError;
use axum::response::Response;

/// Answers with the newest state; `resourceVersion` in the query is always satisfied by that.
pub(crate) fn handle(call: &Call) -> Result<Response, ApiError> {
    let key = Server::key(&call.served, &call.path.namespace, call.name());
    let stored = call
        .server
        .store
        .get(&key)
        .ok_or_else(|| ApiError::not_found(call.served.names(), call.name()))?;
    reply::object(call, 200, &call.served.read(&stored.object.tree()), &[])
}
