//! PATCH in its four forms. The patch is applied to the newest state under the writer's lock: a patch without
//! resourceVersion cannot lose a race.

use crate::decode::{self, Decoded};
use crate::handler::write::Proposal;
use crate::handler::{Call, body, reply};
use crate::negotiation::{self, PatchForm};
use crate::object;
use crate::patch::apply::{ApplyError, ApplyRequest};
use crate::patch::{self, PatchError};
use crate::status::{ApiError, Cause};
use axum::body::Body;
use axum::response::Response;
use serde_json::Value;

/// Patches the object or its status; server-side apply creates it when it is missing.
pub(crate) async fn handle(call: &Call, body: Body) -> Result<Response, ApiError> {
    let form = negotiation::patch_form(&call.headers, call.served.kind.strategic)?;
    let bytes = body::read(&call.server, &call.headers, body).await?;
    if form == PatchForm::Apply {
        return apply(call, &bytes).await;
    }
    if call.query.has("force") {
        let message = "Forbidden: may not be specified for non-apply patch";
        let cause = Cause::new("force", "FieldValueForbidden", message);
        return Err(ApiError::invalid_options("PatchOptions", &[cause]));
    }
    let patch = match form {
        PatchForm::Json => Decoded {
            value: Value::Null,
            duplicate_fields: Vec::new(),
        },
        _ => decode::json(&bytes).map_err(|error| ApiError::bad_request(error.to_string()))?,
    };
    let names = call.served.names();
    let write = call.write()?;
    let written = write.change(call.name(), |old| {
        let old = old.ok_or_else(|| ApiError::not_found(names, call.name()))?;
        let patched = match form {
            PatchForm::Json => patch::json::apply(old, &bytes).map_err(patch_error)?,
            PatchForm::Strategic => patch::strategic::apply(old, &patch.value).map_err(patch_error)?,
            PatchForm::Merge | PatchForm::Apply => patch::merge::apply(old, &patch.value),
        };
        body::check_kind(&call.served, &patched)?;
        Ok(Proposal {
            object: patched,
            duplicate_fields: patch.duplicate_fields,
            ..Proposal::default()
        })
    });
    let written = written.await?;
    reply::object(call, 200, &written.object, &written.warnings)
}

fn patch_error(error: PatchError) -> ApiError {
    match error {
        PatchError::Malformed(message) => ApiError::bad_request(message),
        PatchError::Unprocessable(message) => ApiError::unprocessable(message),
        PatchError::TooManyOperations { .. } => ApiError::request_too_large(error.to_string()),
    }
}

/// Server-side apply.
async fn apply(call: &Call, bytes: &[u8]) -> Result<Response, ApiError> {
    if call.query.get("fieldManager").is_none() {
        let cause = Cause::new(
            "fieldManager",
            "FieldValueRequired",
            "Required value: is required for apply patch",
        );
        return Err(ApiError::invalid_options("PatchOptions", &[cause]));
    }
    let decoded = decode::yaml(bytes)
        .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
    let mut applied = decoded.value;
    if !applied.is_object() {
        return Err(ApiError::bad_request(
            "an apply patch must be an object with apiVersion and kind",
        ));
    }
    body::check_kind(&call.served, &applied)?;
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    // The URL names the object; clients may leave that out of what they apply.
    let name = object::metadata_mut(&mut applied)
        .entry("name")
        .or_insert_with(|| call.name().into());
    if name.as_str().is_none_or(str::is_empty) {
        *name = call.name().into();
    }
    let unknown_fields = call.served.version.schema.prune(&mut applied);
    let only_status = call.path.subresource.as_deref() == Some("status");
    trim(&mut applied, call.served.kind.status, only_status);
    let write = call.write()?;
    let (force, now) = (call.query.flag("force"), call.server.clock.now());
    let duplicate_fields = decoded.duplicate_fields;
    let written = write
        .change(call.name(), |old| {
            if old.is_none() && only_status {
                return Err(ApiError::not_found(call.served.names(), call.name()));
            }
            if old.is_none() && !object::uid(&applied).is_empty() {
                return Err(ApiError::conflict(
                    call.served.names(),
                    call.name(),
                    "uid mismatch: the provided object specified a uid, and no existing object was found",
                ));
            }
            let object = patch::apply::apply(ApplyRequest {
                schema: &call.served.version.schema,
                live: old,
                applied,
                manager: &write.actor.manager,
                force,
                api_version: call.served.api_version(),
                subresource: call.path.subresource.as_deref(),
                now,
            });
            let object = object.map_err(apply_error)?;
            Ok(Proposal {
                object,
                duplicate_fields,
                unknown_fields,
                applied: true,
                ..Proposal::default()
            })
        })
        .await?;
    reply::object(
        call,
        if written.created { 201 } else { 200 },
        &written.object,
        &written.warnings,
    )
}

/// Leaves in an applied object what this endpoint writes: managers own only that.
fn trim(applied: &mut Value, has_status: bool, only_status: bool) {
    if !has_status {
        return;
    }
    if !only_status {
        object::remove(applied, "status");
        return;
    }
    if let Some(map) = applied.as_object_mut() {
        map.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    }
    object::metadata_mut(applied)
        .retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "uid" | "resourceVersion"));
}

fn apply_error(error: ApplyError) -> ApiError {
    match error {
        ApplyError::Invalid(message) => ApiError::bad_request(message),
        ApplyError::Conflict(ref conflicts) => {
            let causes: Vec<Cause> = conflicts
                .iter()
                .map(|conflict| {
                    Cause::new(conflict.field.clone(), "FieldManagerConflict", conflict.message())
                })
                .collect();
            ApiError::apply_conflict(error.to_string(), &causes)
        }
    }
}
