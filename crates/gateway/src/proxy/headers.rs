//! What happens to headers between caller and function (knative/specs `runtime-contract.md`, knative/serving
//! `pkg/http/handler`): hop-by-hop and internal ones go, forwarding ones come, all others pass unchanged.

use super::called::Called;
use http::header::{CONNECTION, EXPECT, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names the tag that shall answer, on the main host of a Route (knative/serving, feature `tag-header-based-routing`).
pub(crate) const TAG: HeaderName = HeaderName::from_static("knative-serving-tag");
/// Tells the function that no tag answers, although one could have been named.
const DEFAULT_ROUTE: HeaderName = HeaderName::from_static("knative-serving-default-route");

/// Headers about one connection (RFC 9110 §7.6.1). `Trailer` stays: trailers pass.
static HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("proxy-authorization"),
];
/// Headers that most requests have more when they reach the function, so that the map grows once.
const ADDED_USUAL: usize = 6;
/// Headers that Knative's components send one another. From outside they would be lies; but [`TAG`] is the caller's.
const INTERNAL_PREFIXES: [&str; 2] = ["k-", "knative-serving-"];

/// The headers of a request that matter here, found in one pass: most requests have hardly any of them.
#[derive(Debug, Default)]
struct Present {
    hop_by_hop: bool,
    te: bool,
    expect: bool,
    internal: bool,
    /// The host that was called.
    host: bool,
    forwarded: bool,
    forwarded_for: bool,
    forwarded_host: bool,
    /// With a scheme that is one.
    forwarded_proto: bool,
    request_id: bool,
}

impl Present {
    fn of(headers: &HeaderMap, called: &Called) -> Self {
        let mut present = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "host" => present.host = *value == called.authority,
                "te" => present.te = true,
                "expect" => present.expect = true,
                "forwarded" => present.forwarded = true,
                "x-forwarded-for" => present.forwarded_for = true,
                "x-forwarded-host" => present.forwarded_host = true,
                "x-forwarded-proto" => present.forwarded_proto = is_scheme(headers.get(X_FORWARDED_PROTO)),
                "x-request-id" => present.request_id = true,
                _ if HOP_BY_HOP.contains(name) => present.hop_by_hop = true,
                other => {
                    present.internal |= INTERNAL_PREFIXES.iter().any(|prefix| other.starts_with(prefix));
                }
            }
        }
        present
    }
}

/// Makes a request's headers those that the function sees. `is_default_route` tells whether it could have named a tag and
/// is answered by the default all the same.
pub(crate) fn prepare(headers: &mut HeaderMap, called: &Called, is_default_route: bool) {
    let mut present = Present::of(headers, called);
    let takes_trailers = present.te && headers.get_all(TE).iter().any(takes_trailers);
    if present.hop_by_hop {
        strip_hop_by_hop(headers);
        // `Connection` may have named any.
        present = Present::of(headers, called);
    }
    if present.te {
        headers.remove(TE);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if present.expect {
        // Said to the gateway, which lets the client go on when the function begins to read.
        headers.remove(EXPECT);
    }
    if present.internal {
        strip_internal(headers);
    }
    if headers.try_reserve(ADDED_USUAL).is_err() {
        // There are too many for more; the configuration's limit is far below.
        return;
    }
    if is_default_route {
        headers.insert(DEFAULT_ROUTE, HeaderValue::from_static("true"));
    }
    if !present.host {
        headers.insert(HOST, called.authority.clone());
    }
    let was_passed_on = present.forwarded_for || present.forwarded_host || present.forwarded_proto;
    if present.forwarded_for {
        append_peer(headers, called);
    } else {
        headers.insert(X_FORWARDED_FOR, called.peer.clone());
    }
    if !present.forwarded_proto {
        let scheme = HeaderValue::from_static(scheme(called.is_secure));
        headers.insert(X_FORWARDED_PROTO, scheme);
    }
    if !present.forwarded_host {
        headers.insert(X_FORWARDED_HOST, called.authority.clone());
    }
    if !present.forwarded {
        let forwarded = if was_passed_on {
            forwarded_of(headers)
        } else {
            Some(called.forwarded.clone())
        };
        if let Some(forwarded) = forwarded {
            headers.insert(FORWARDED, forwarded);
        }
    }
    if !present.request_id
        && let Some(id) = request_id()
    {
        headers.insert(X_REQUEST_ID, id);
    }
}

/// How a request came, as `X-Forwarded-Proto` says it.
pub(crate) fn scheme(is_secure: bool) -> &'static str {
    if is_secure { "https" } else { "http" }
}

fn is_scheme(proto: Option<&HeaderValue>) -> bool {
    proto.is_some_and(|proto| matches!(proto.as_bytes(), b"http" | b"https"))
}

/// Whether a proxy before us took the request with TLS.
pub(crate) fn came_with_tls(headers: &HeaderMap) -> bool {
    headers
        .get(X_FORWARDED_PROTO)
        .is_some_and(|proto| proto.as_bytes() == b"https")
}

/// Removes the headers about one connection, and those that `Connection` names.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A client must not be able to take away what the function relies on.
        .filter(|name| *name != HOST)
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

fn strip_internal(headers: &mut HeaderMap) {
    let is_internal = |name: &&HeaderName| {
        INTERNAL_PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix))
            && **name != TAG
    };
    let internal: Vec<HeaderName> = headers.keys().filter(is_internal).cloned().collect();
    for name in internal {
        headers.remove(name);
    }
}

/// Whether a `TE` header says that trailers are welcome.
fn takes_trailers(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|value| {
        value
            .split(',')
            .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
    })
}

/// Adds the caller's address to the end of `X-Forwarded-For`, as one line.
fn append_peer(headers: &mut HeaderMap, called: &Called) {
    let mut hops = Vec::new();
    let earlier = headers.get_all(X_FORWARDED_FOR).iter();
    for hop in earlier
        .filter_map(|value| value.to_str().ok())
        .filter(|hop| !hop.trim().is_empty())
    {
        hops.extend_from_slice(hop.as_bytes());
        hops.extend_from_slice(b", ");
    }
    hops.extend_from_slice(called.peer.as_bytes());
    if let Ok(value) = HeaderValue::try_from(hops) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// `Forwarded` from the `X-Forwarded-*` headers.
fn forwarded_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let hops = text(X_FORWARDED_FOR).unwrap_or_default();
    let forwarded = forwarded(hops, text(X_FORWARDED_HOST), text(X_FORWARDED_PROTO));
    HeaderValue::try_from(forwarded).ok()
}

/// `Forwarded` (RFC 7239): one element per hop, host and protocol with the first (knative/serving `pkg/http/handler`, the
/// Forwarded shim).
pub(crate) fn forwarded(hops: &str, host: Option<&str>, proto: Option<&str>) -> String {
    let mut elements = String::new();
    for (index, hop) in hops.split(',').enumerate() {
        if index > 0 {
            elements.push_str(", ");
        }
        elements.push_str("for=");
        elements.push_str(&node(hop.trim()));
        if index > 0 {
            continue;
        }
        if let Some(host) = host {
            elements.push_str(";host=");
            elements.push_str(&quoted(host));
        }
        if let Some(proto) = proto {
            elements.push_str(";proto=");
            elements.push_str(proto);
        }
    }
    elements
}

/// A node identifier: addresses of version 6 stand in brackets and quotes (RFC 7239 §6).
fn node(address: &str) -> Cow<'_, str> {
    if address.contains(':') && !address.starts_with('[') {
        return Cow::Owned(format!("\"[{}]\"", address.replace(['"', '\\'], "")));
    }
    quoted(address)
}

/// The text as a token where it is one, otherwise as a quoted string (RFC 7230 §3.2.6).
fn quoted(text: &str) -> Cow<'_, str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A random UUID, from the thread's random numbers: asking the system each time would cost a system call.
fn request_id() -> Option<HeaderValue> {
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(given: &[(&'static str, &'static str)], peer: &str) -> Vec<(String, String)> {
        let called = Called::new("hello.default.localhost:8080", peer.parse().unwrap(), false).unwrap();
        prepared_with(given, &called, false)
    }

    fn prepared_with(
        given: &[(&'static str, &'static str)],
        called: &Called,
        is_default_route: bool,
    ) -> Vec<(String, String)> {
        let pairs = given
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        prepare(&mut headers, called, is_default_route);
        let mut pairs: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str().to_owned(), v.to_str().unwrap().to_owned()))
            .collect();
        pairs.sort();
        pairs
    }

    fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
        wanted
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn forwarding_headers_are_added() {
        let mut found = prepared(&[("traceparent", "00-1-2-01")], "192.0.2.9");
        let id = found
            .iter()
            .position(|(name, _)| name == "x-request-id")
            .map(|at| found.remove(at).1)
            .unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(
            found,
            pairs(&[
                (
                    "forwarded",
                    "for=192.0.2.9;host=\"hello.default.localhost:8080\";proto=http"
                ),
                ("host", "hello.default.localhost:8080"),
                ("traceparent", "00-1-2-01"),
                ("x-forwarded-for", "192.0.2.9"),
                ("x-forwarded-host", "hello.default.localhost:8080"),
                ("x-forwarded-proto", "http"),
            ])
        );
    }

    #[test]
    fn what_a_proxy_before_us_said_stays() {
        let found = prepared(
            &[
                ("x-forwarded-for", "198.51.100.7"),
                ("x-forwarded-for", "2001:db8::1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "shop.example"),
                ("x-request-id", "mine"),
            ],
            "::ffff:192.0.2.9",
        );
        assert_eq!(
            found,
            pairs(&[
                (
                    "forwarded",
                    "for=198.51.100.7;host=shop.example;proto=https, for=\"[2001:db8::1]\", for=192.0.2.9"
                ),
                ("host", "hello.default.localhost:8080"),
                ("x-forwarded-for", "198.51.100.7, 2001:db8::1, 192.0.2.9"),
                ("x-forwarded-host", "shop.example"),
                ("x-forwarded-proto", "https"),
                ("x-request-id", "mine"),
            ])
        );
    }

    #[test]
    fn tls_and_the_default_route_are_seen() {
        let called = Called::new("shop.example", "192.0.2.9".parse().unwrap(), true).unwrap();
        let given = [("knative-serving-tag", "none"), ("x-request-id", "mine")];
        assert_eq!(
            prepared_with(&given, &called, true),
            pairs(&[
                ("forwarded", "for=192.0.2.9;host=shop.example;proto=https"),
                ("host", "shop.example"),
                ("knative-serving-default-route", "true"),
                ("knative-serving-tag", "none"),
                ("x-forwarded-for", "192.0.2.9"),
                ("x-forwarded-host", "shop.example"),
                ("x-forwarded-proto", "https"),
                ("x-request-id", "mine"),
            ])
        );
    }

    #[test]
    fn hop_by_hop_and_internal_headers_go() {
        let found = prepared(
            &[
                ("connection", "close, X-Secret, host"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("http2-settings", "AAMAAABk"),
                ("expect", "100-continue"),
                ("knative-serving-default-route", "true"),
                ("te", "gzip, Trailers"),
                ("trailer", "x-sum"),
                ("x-secret", "1"),
                ("k-original-host", "evil"),
                ("k-proxy-request", "activator"),
                ("knative-serving-revision", "other"),
                ("forwarded", "for=_hidden"),
                ("x-request-id", "mine"),
                ("kind", "kept"),
            ],
            "192.0.2.9",
        );
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        let wanted = [
            "forwarded",
            "host",
            "kind",
            "te",
            "trailer",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-request-id",
        ];
        assert_eq!(names, wanted);
        assert!(found.contains(&("te".into(), "trailers".into())));
        assert!(found.contains(&("forwarded".into(), "for=_hidden".into())));
    }
}
