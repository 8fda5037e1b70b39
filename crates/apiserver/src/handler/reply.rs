//! Writing responses.

use crate::auth::audit;
use crate::handler::Call;
use crate::negotiation::{Encoding, Shape};
use crate::object;
use crate::status::ApiError;
use crate::table::{self, IncludeObject};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

/// Longest text of all `Warning` headers of a response, in bytes (as in Kubernetes).
const WARNINGS_BYTES_MAX: usize = 4096;

/// A JSON response.
pub(crate) fn json(code: u16, value: &impl Serialize) -> Response {
    bytes(
        code,
        "application/json",
        serde_json::to_vec(value).unwrap_or_default(),
    )
}

/// A response of some bytes.
pub(crate) fn bytes(code: u16, content_type: &str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A body that is made piece by piece. Between pieces others have their turn: making one is computing, not waiting.
pub(crate) fn in_turns<E: std::error::Error + Send + Sync + 'static>(
    pieces: impl Iterator<Item = Result<Vec<u8>, E>> + Send + 'static,
) -> Body {
    Body::from_stream(futures::stream::iter(pieces).then(async |piece| {
        tokio::task::yield_now().await;
        piece.map(Bytes::from)
    }))
}

/// A failure as a `Status`.
pub(crate) fn error(error: &ApiError) -> Response {
    let mut response = json(error.code, &error.to_status());
    response.extensions_mut().insert(audit::Failure(error.reason));
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// One object, in the shape that was asked for, with warnings.
pub(crate) fn object(
    call: &Call,
    code: u16,
    value: &Value,
    warnings: &[String],
) -> Result<Response, ApiError> {
    let mut response = match call.format.shape {
        Shape::Whole => encoded(call, code, value)?,
        Shape::Metadata(version) => encoded(call, code, &table::partial_metadata(value, version))?,
        Shape::Table(version) => {
            let include = IncludeObject::parse(call.query.get("includeObject"))?;
            let metadata = json!({"resourceVersion": object::resource_version(value)});
            let now = call.server.clock.now();
            encoded(
                call,
                code,
                &table::table(&call.served, version, [value], metadata, include, now),
            )?
        }
    };
    add_warnings(&mut response, warnings);
    response.extensions_mut().insert(audit::Shown {
        name: object::name(value).to_owned(),
        uid: object::uid(value).to_owned(),
    });
    Ok(response)
}

/// Whether JSON for programs is wanted, with nothing between the values.
pub(crate) fn is_plain_json(call: &Call) -> bool {
    call.format.encoding == Encoding::Json && call.query.get("pretty").is_none_or(|pretty| pretty == "false")
}

/// A value in the encoding that was asked for; `?pretty=true` is for people with curl.
pub(crate) fn encoded(call: &Call, code: u16, value: &impl Serialize) -> Result<Response, ApiError> {
    match call.format.encoding {
        Encoding::Json if !is_plain_json(call) => Ok(bytes(
            code,
            "application/json",
            serde_json::to_vec_pretty(value).map_err(ApiError::internal)?,
        )),
        Encoding::Json => Ok(bytes(
            code,
            "application/json",
            serde_json::to_vec(value).map_err(ApiError::internal)?,
        )),
        Encoding::Yaml => Ok(bytes(
            code,
            "application/yaml",
            serde_yaml_ng::to_string(value).map_err(ApiError::internal)?,
        )),
    }
}

/// Adds `Warning: 299 - "text"` headers, which kubectl prints.
pub(crate) fn add_warnings(response: &mut Response, warnings: &[String]) {
    let mut total = 0;
    for warning in warnings {
        let clean: String = warning
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        total += clean.len();
        if total > WARNINGS_BYTES_MAX {
            return;
        }
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
