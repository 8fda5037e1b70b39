//! Reading request bodies: bounded in size, in three forms, always an object in the end.

use crate::decode::{self, Decoded};
use crate::handler::Call;
use crate::negotiation::{self, BodyForm};
use crate::protobuf;
use crate::registry::Served;
use crate::server::Server;
use crate::status::ApiError;
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

/// The whole body, if it is not too long. An announced length is believed before anything is read.
pub(crate) async fn read(server: &Server, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let limit = server.config.body_bytes_max.as_usize();
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(ApiError::too_large(limit));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit)),
        Err(error) => Err(ApiError::bad_request(format!(
            "the request body ended early: {error}"
        ))),
    }
}

/// An object in the form that `Content-Type` names.
pub(crate) fn decode(headers: &HeaderMap, body: &[u8]) -> Result<Decoded, ApiError> {
    let bad = |error: String| ApiError::bad_request(error);
    let decoded = match negotiation::body_form(headers)? {
        BodyForm::Json => decode::json(body).map_err(|error| bad(error.to_string()))?,
        BodyForm::Yaml => decode::yaml(body).map_err(|error| bad(error.to_string()))?,
        BodyForm::Protobuf => {
            let value = protobuf::decode(body).map_err(|error| bad(error.to_string()))?;
            Decoded {
                value,
                duplicate_fields: Vec::new(),
            }
        }
    };
    if decoded.value.is_object() {
        return Ok(decoded);
    }
    Err(bad(
        "the request body must be an object, such as {\"apiVersion\": …, \"kind\": …}".to_owned(),
    ))
}

/// The object that a request writes. Custom resources cannot come as protobuf, as in Kubernetes.
pub(crate) fn decode_object(call: &Call, body: &[u8]) -> Result<Decoded, ApiError> {
    if !call.served.kind.built_in && negotiation::is_protobuf(&call.headers) {
        return Err(negotiation::no_protobuf());
    }
    decode(&call.headers, body)
}

/// Checks that an object is of the kind and version that the URL names; core clients may leave both out.
pub(crate) fn check_kind(served: &Served, object: &Value) -> Result<(), ApiError> {
    let (api_version, kind) = (
        crate::object::text(object, "/apiVersion"),
        crate::object::text(object, "/kind"),
    );
    if kind.is_empty() && (!served.kind.built_in || !api_version.is_empty()) {
        return Err(ApiError::bad_request(format!(
            "Object 'Kind' is missing: write kind: {}",
            served.kind.kind
        )));
    }
    if api_version.is_empty() && !served.kind.built_in {
        let wanted = served.api_version();
        return Err(ApiError::bad_request(format!(
            "Object 'apiVersion' is missing: write apiVersion: {wanted}"
        )));
    }
    if !api_version.is_empty() && api_version != served.api_version() {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            served.api_version()
        )));
    }
    if !kind.is_empty() && kind != served.kind.kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind ({})",
            served.kind.kind
        )));
    }
    match object.get("metadata") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err(ApiError::bad_request("metadata must be an object".to_owned())),
    }
}
