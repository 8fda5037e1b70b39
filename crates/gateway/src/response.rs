//! Answers that the gateway gives itself: one line of plain text with a code and where to look.

use crate::grpc::Said;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use kittiwake_core::body::{self, Body};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::invoke::InvokeError;
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::routing_table::RouteEntry;
use std::time::Duration;

/// Body of a 504, the same as queue-proxy's (knative/serving `pkg/queue/sharedmain/handlers.go`).
pub(crate) const TIMEOUT_BODY: &str = "request timeout";
/// Characters of a failure's message that are shown to a caller.
const MESSAGE_CHARS_MAX: usize = 300;

/// A line of plain text.
pub(crate) fn plain(status: StatusCode, line: impl Into<String>) -> Response<Body> {
    exactly(status, line.into() + "\n")
}

/// Plain text as it stands, without a line end: what Knative's clients compare.
pub(crate) fn exactly(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let text = text.into();
    let mut response = Response::new(body::full(text.clone()));
    *response.status_mut() = status;
    response.extensions_mut().insert(Said(text));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn with_retry_after(mut response: Response<Body>, after: Duration) -> Response<Body> {
    // Whole seconds, rounded up; 0 would mean "at once".
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

/// The request names no host that could be looked up.
pub(crate) fn bad_host(why: &'static str) -> Response<Body> {
    plain(StatusCode::BAD_REQUEST, format!("bad request: {why}"))
}

/// Tunnels are not served.
pub(crate) fn no_tunnels() -> Response<Body> {
    let mut response = plain(
        StatusCode::METHOD_NOT_ALLOWED,
        "this server answers functions; it opens no tunnels (CONNECT)",
    );
    let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// The request target is longer than the gateway takes.
pub(crate) fn target_too_long(bytes_max: usize) -> Response<Body> {
    plain(
        StatusCode::URI_TOO_LONG,
        format!("the request target is longer than {bytes_max} bytes"),
    )
}

/// There are more header fields than the gateway takes.
pub(crate) fn too_many_headers(headers_max: usize) -> Response<Body> {
    plain(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        format!("the request has more than {headers_max} header fields"),
    )
}

/// The client began a body and then sent nothing for too long.
pub(crate) fn client_stalled() -> Response<Body> {
    plain(
        StatusCode::REQUEST_TIMEOUT,
        "the request's body was not sent in time",
    )
}

/// The function answered 101 where nobody asked for another protocol, or did not where the caller can take nothing
/// else (as Go's reverse proxy does, which queue-proxy uses).
pub(crate) fn bad_switch() -> Response<Body> {
    plain(
        StatusCode::BAD_GATEWAY,
        "the function did not switch to the protocol that was asked for",
    )
}

/// To come again with TLS: 301, as Envoy answers for an Ingress with `httpOption: Redirected`.
pub(crate) fn redirect(location: &str) -> Response<Body> {
    let mut response = plain(StatusCode::MOVED_PERMANENTLY, format!("moved to {location}"));
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// No route has this host.
pub(crate) fn no_route(host: &str) -> Response<Body> {
    let line = format!(
        "no route for host {host}; `kittiwake get ksvc -A` lists the hosts there are [{}]",
        ErrorCode::NoRoute
    );
    plain(StatusCode::NOT_FOUND, line)
}

/// The route is there, but nobody can answer.
pub(crate) fn not_ready(entry: &RouteEntry, retry_after: Duration) -> Response<Body> {
    let why = entry
        .unready
        .as_deref()
        .map(|why| format!(": {}", one_line(why).trim_end_matches('.')))
        .unwrap_or_default();
    let line = format!(
        "no revision of {name} is ready{why}; see `kittiwake describe {name} -n {namespace}` [{code}]",
        name = entry.name,
        namespace = entry.namespace,
        code = ErrorCode::NoReadyRevision,
    );
    with_retry_after(plain(StatusCode::SERVICE_UNAVAILABLE, line), retry_after)
}

/// The announced body is longer than the revision takes.
pub(crate) fn too_large(revision: &RevisionSpec) -> Response<Body> {
    let limit = revision.limits.request_body;
    let line = format!(
        "the request body is larger than the limit of {limit} [{}]",
        ErrorCode::BodyTooLarge
    );
    plain(StatusCode::PAYLOAD_TOO_LARGE, line)
}

/// The status for a call without a response. A function that failed within the platform is 500; one that listens by
/// itself and broke off is 502, as behind any proxy.
pub(crate) fn status(error: &InvokeError) -> StatusCode {
    match error {
        InvokeError::Trapped(_) | InvokeError::NoResponse | InvokeError::Internal(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        InvokeError::BadGateway(_) => StatusCode::BAD_GATEWAY,
        InvokeError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        InvokeError::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        InvokeError::Overloaded { .. } | InvokeError::NotStarted(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Whether the function took part in a call that has no response.
pub(crate) fn function_ran(error: &InvokeError) -> bool {
    matches!(
        error,
        InvokeError::Trapped(_)
            | InvokeError::NoResponse
            | InvokeError::BadGateway(_)
            | InvokeError::TimedOut
    )
}

/// The answer for a call without a response. What the guest said stays in its log, out of a caller's sight.
pub(crate) fn failed(error: &InvokeError, revision: &RevisionSpec, retry_after: Duration) -> Response<Body> {
    let (code, status) = (error.code(), status(error));
    let look = look(revision);
    match error {
        InvokeError::TimedOut => exactly(status, TIMEOUT_BODY),
        InvokeError::BodyTooLarge => too_large(revision),
        InvokeError::Trapped(_) => plain(status, format!("the function failed; see {look} [{code}]")),
        InvokeError::NoResponse => plain(
            status,
            format!("the function ended without an answer; see {look} [{code}]"),
        ),
        InvokeError::BadGateway(_) => plain(
            status,
            format!("the function gave no valid answer; see {look} [{code}]"),
        ),
        InvokeError::Internal(_) => plain(status, format!("internal error; see the platform's log [{code}]")),
        InvokeError::Overloaded { retry_after } => with_retry_after(
            plain(
                status,
                format!("all instances are busy; try again later [{code}]"),
            ),
            *retry_after,
        ),
        InvokeError::NotStarted(error) => {
            let line = format!(
                "the function could not be started: {}; see {look} [{code}]",
                one_line(&error.message)
            );
            with_retry_after(plain(status, line), retry_after)
        }
    }
}

/// Where the function's owner finds more.
fn look(revision: &RevisionSpec) -> String {
    let name = if revision.service.is_empty() {
        &*revision.key.name
    } else {
        &*revision.service
    };
    match &*revision.key.namespace {
        "default" => format!("`kittiwake logs {name}`"),
        namespace => format!("`kittiwake logs {name} -n {namespace}`"),
    }
}

/// The first line, cut at a length that fits a terminal.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::entry;
    use http_body_util::BodyExt;
    use kittiwake_core::artifact::PrepareError;

    fn text(response: Response<Body>) -> (u16, Option<String>, String) {
        let retry = response
            .headers()
            .get(RETRY_AFTER)
            .map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime
            .block_on(response.into_body().collect())
            .unwrap()
            .to_bytes();
        (status, retry, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn failures_have_knatives_statuses_and_one_line() {
        let revision = entry(&[("s-00001", 100)]).targets[0].revision.clone();
        let secs = Duration::from_secs;
        let not_started =
            PrepareError::new(ErrorCode::RegistryUnavailable, "the registry is away\nbacktrace");
        for (error, status, retry, line) in [
            (
                InvokeError::Trapped("secret backtrace".into()),
                500,
                None,
                "the function failed; see `kittiwake logs s` [KW0201]\n",
            ),
            (InvokeError::TimedOut, 504, None, "request timeout"),
            (
                InvokeError::NoResponse,
                500,
                None,
                "the function ended without an answer; see `kittiwake logs s` [KW0203]\n",
            ),
            (
                InvokeError::BodyTooLarge,
                413,
                None,
                "the request body is larger than the limit of 64Mi [KW0204]\n",
            ),
            (
                InvokeError::Overloaded {
                    retry_after: Duration::from_millis(1500),
                },
                503,
                Some("2"),
                "all instances are busy; try again later [KW0205]\n",
            ),
            (
                InvokeError::NotStarted(not_started),
                503,
                Some("3"),
                "the function could not be started: the registry is away; see `kittiwake logs s` [KW0103]\n",
            ),
            (
                InvokeError::Internal("secret".into()),
                500,
                None,
                "internal error; see the platform's log [KW0901]\n",
            ),
        ] {
            let answer = text(failed(&error, &revision, secs(3)));
            assert_eq!(answer, (status, retry.map(str::to_owned), line.to_owned()));
        }
    }

    #[test]
    fn an_unready_route_says_why() {
        let mut entry = entry(&[]);
        entry.unready = Some("Revision \"s-00001\" failed\nmore".into());
        let (status, retry, line) = text(not_ready(&entry, Duration::ZERO));
        assert_eq!((status, retry.as_deref()), (503, Some("1")));
        assert_eq!(
            line,
            "no revision of s is ready: Revision \"s-00001\" failed; see `kittiwake describe s -n default` [KW0207]\n"
        );
    }

    #[test]
    fn long_messages_are_cut() {
        assert_eq!(one_line(&"é".repeat(1000)).chars().count(), MESSAGE_CHARS_MAX + 1);
    }
}
