//! PUT: replaces an object, or its status.

use crate::handler::write::Proposal;
use crate::handler::{Call, body, reply};
use crate::object;
use crate::status::ApiError;
use axum::body::Body;
use axum::response::Response;

/// Replaces the object with the one in the body; never creates.
pub(crate) async fn handle(call: &Call, body: Body) -> Result<Response, ApiError> {
    let write = call.write()?;
    let bytes = body::read(&call.server, &call.headers, body).await?;
    let decoded = body::decode_object(call, &bytes)?;
    body::check_kind(&call.served, &decoded.value)?;
    if object::name(&decoded.value).is_empty() {
        return Err(ApiError::bad_request("name must be provided in metadata.name"));
    }
    let names = call.served.names();
    let written = write
        .change(call.name(), |old| {
            old.ok_or_else(|| ApiError::not_found(names, call.name()))?;
            Ok(Proposal {
                object: decoded.value,
                duplicate_fields: decoded.duplicate_fields,
                needs_resource_version: !call.served.kind.unconditional_update,
                ..Proposal::default()
            })
        })
        .await?;
    reply::object(call, 200, &written.object, &written.warnings)
}
