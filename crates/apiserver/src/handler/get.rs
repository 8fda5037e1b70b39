//! GET of one object.

use crate::handler::{Call, as_stored, list_options, reply};
use crate::negotiation::Shape;
use crate::server::Server;
use crate::status::ApiError;
use axum::response::Response;

/// Answers with the newest state, which satisfies every `resourceVersion` in the query but one of the future.
pub(crate) fn handle(call: &Call) -> Result<Response, ApiError> {
    list_options::not_newer(
        &call.query,
        call.server.store_of(&call.served.kind).resource_version(),
    )?;
    let key = Server::key(&call.served, &call.path.namespace, call.name());
    let stored = call
        .server
        .store_of(&call.served.kind)
        .get(&key)
        .ok_or_else(|| ApiError::not_found(call.served.names(), call.name()))?;
    if call.format.shape == Shape::Whole
        && reply::is_plain_json(call)
        && let Some(text) = as_stored::text(&call.served, &stored.object)
    {
        return Ok(reply::bytes(200, "application/json", text.to_owned()));
    }
    reply::object(call, 200, &call.served.read(&stored.object.tree()), &[])
}
