//! POST of a new object.

use crate::handler::write::{Actor, Proposal, Write};
use crate::handler::{Call, body, reply};
use crate::status::ApiError;
use axum::body::Body;
use axum::response::Response;
use std::sync::Arc;

impl Call {
    /// The write request that this call is.
    pub(crate) fn write(&self) -> Result<Write<'_>, ApiError> {
        Ok(Write {
            server: &self.server,
            served: &self.served,
            namespace: self.path.namespace.clone(),
            subresource: self.path.subresource.as_deref(),
            actor: Actor {
                manager: self.manager()?,
                identity: Arc::clone(&self.identity),
            },
            dry_run: self.query.dry_run()?,
            validation: self.query.field_validation()?,
        })
    }
}

/// Creates the object in the body.
pub(crate) async fn handle(call: &Call, body: Body) -> Result<Response, ApiError> {
    let write = call.write()?;
    let bytes = body::read(&call.server, &call.headers, body).await?;
    let decoded = body::decode_object(call, &bytes)?;
    body::check_kind(&call.served, &decoded.value)?;
    let proposal = Proposal {
        object: decoded.value,
        duplicate_fields: decoded.duplicate_fields,
        ..Proposal::default()
    };
    let written = write.create(proposal).await?;
    reply::object(call, 201, &written.object, &written.warnings)
}
