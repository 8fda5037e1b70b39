//! gRPC: what the gateway says in place of a function must be said in gRPC's own form, or clients see a broken
//! connection instead of an error (gRPC over HTTP/2, "Responses").

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use kittiwake_core::body::{self, Body};
use std::fmt::Write;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: &[u8] = b"application/grpc";

/// Whether a request is a gRPC call: `application/grpc`, also with a suffix such as `+proto`, and no gRPC-Web.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(GRPC))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The text of an answer that the gateway gives itself, kept beside its body.
#[derive(Debug, Clone)]
pub(crate) struct Said(pub(crate) bytes::Bytes);

/// An answer of the gateway as an answer to a gRPC call: one head with the status, and nothing after it.
pub(crate) fn trailers_only(mut answer: Response<Body>) -> Response<Body> {
    let said = answer.extensions_mut().remove::<Said>();
    let status = status(answer.status());
    *answer.status_mut() = StatusCode::OK;
    *answer.body_mut() = body::empty();
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(status));
    let message = said.map(|said| percent_encoded(said.0.trim_ascii()));
    if let Some(message) = message.and_then(|message| HeaderValue::try_from(message).ok()) {
        headers.insert(GRPC_MESSAGE, message);
    }
    answer
}

/// The status of a call that failed with an HTTP status (gRPC `doc/http-grpc-status-mapping.md`, as Envoy does).
fn status(http: StatusCode) -> u16 {
    const UNKNOWN: u16 = 2;
    const PERMISSION_DENIED: u16 = 7;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    match http.as_u16() {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// A message as gRPC writes it into a header: all but printable ASCII, and `%`, percent-encoded.
fn percent_encoded(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..=b'~' if *byte != b'%' => encoded.push(char::from(*byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_their_content_type() {
        for (value, wanted) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; a=b", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(value))]
                .into_iter()
                .collect();
            assert_eq!(is_call(&headers), wanted, "{value}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn an_error_is_one_head() {
        for (http, wanted) in [
            (400, "13"),
            (404, "12"),
            (413, "2"),
            (500, "2"),
            (503, "14"),
            (504, "14"),
        ] {
            let answer = crate::response::plain(StatusCode::from_u16(http).unwrap(), "50 % é");
            let answer = trailers_only(answer);
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()["grpc-status"], wanted, "{http}");
            assert_eq!(answer.headers()["grpc-message"], "50 %25 %C3%A9");
            assert_eq!(answer.headers()["content-type"], "application/grpc");
            assert!(http_body::Body::is_end_stream(answer.body()));
        }
    }
}
