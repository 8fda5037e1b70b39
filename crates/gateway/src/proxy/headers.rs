//! What happens to headers between caller and function (knative/specs `runtime-contract.md`, knative/serving
//! `pkg/http/handler`): hop-by-hop and internal ones go, forwarding ones come, all others pass unchanged.

use http::header::{CONNECTION, EXPECT, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;
use std::net::IpAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names the tag that shall answer, on the main host of a Route (knative/serving, feature `tag-header-based-routing`).
pub(crate) const TAG: HeaderName = HeaderName::from_static("knative-serving-tag");
/// Tells the function that no tag answers, although one could have been named.
const DEFAULT_ROUTE: HeaderName = HeaderName::from_static("knative-serving-default-route");

/// Headers about one connection (RFC 9110 §7.6.1). `Trailer` stays: trailers pass.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("proxy-authorization"),
];
/// Room for a `Forwarded` header of one hop, so that it grows only where there are more.
const FORWARDED_BYTES_USUAL: usize = 128;
/// Headers that Knative's components send one another. From outside they would be lies; but [`TAG`] is the caller's.
const INTERNAL_PREFIXES: [&str; 2] = ["k-", "knative-serving-"];

/// What is known of a request that its headers do not say, or say otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) peer: IpAddr,
    /// The authority that was called.
    pub(crate) called: &'a str,
    /// Whether it came with TLS.
    pub(crate) is_secure: bool,
    /// Whether it could have named a tag and is answered by the default all the same.
    pub(crate) is_default_route: bool,
}

/// Makes a request's headers those that the function sees.
pub(crate) fn prepare(headers: &mut HeaderMap, facts: &Facts<'_>) {
    let takes_trailers = headers.get_all(TE).iter().any(takes_trailers);
    strip_hop_by_hop(headers);
    headers.remove(TE);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // Said to the gateway, which lets the client go on when the function begins to read.
    headers.remove(EXPECT);
    strip_internal(headers);
    if facts.is_default_route {
        headers.insert(DEFAULT_ROUTE, HeaderValue::from_static("true"));
    }
    let Ok(called) = HeaderValue::from_str(facts.called) else {
        return;
    };
    headers.insert(HOST, called.clone());
    append_peer(headers, facts.peer);
    let known_proto = |proto: &HeaderValue| matches!(proto.as_bytes(), b"http" | b"https");
    if !headers.get(X_FORWARDED_PROTO).is_some_and(known_proto) {
        let proto = if facts.is_secure { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    }
    headers.entry(X_FORWARDED_HOST).or_insert(called);
    if !headers.contains_key(FORWARDED)
        && let Some(forwarded) = forwarded(headers)
    {
        headers.insert(FORWARDED, forwarded);
    }
    if !headers.contains_key(X_REQUEST_ID)
        && let Ok(id) = HeaderValue::try_from(request_id())
    {
        headers.insert(X_REQUEST_ID, id);
    }
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
fn append_peer(headers: &mut HeaderMap, peer: IpAddr) {
    let mut hops = String::new();
    let earlier = headers.get_all(X_FORWARDED_FOR).iter();
    for hop in earlier
        .filter_map(|value| value.to_str().ok())
        .filter(|hop| !hop.trim().is_empty())
    {
        hops.push_str(hop);
        hops.push_str(", ");
    }
    hops.push_str(&peer.to_canonical().to_string());
    if let Ok(value) = HeaderValue::try_from(hops) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// `Forwarded` (RFC 7239) from the `X-Forwarded-*` headers: one element per hop, host and protocol with the first
/// (knative/serving `pkg/http/handler`, the Forwarded shim).
fn forwarded(headers: &HeaderMap) -> Option<HeaderValue> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let hops = text(X_FORWARDED_FOR).unwrap_or_default();
    let mut elements = String::with_capacity(FORWARDED_BYTES_USUAL);
    for (index, hop) in hops.split(',').enumerate() {
        if index > 0 {
            elements.push_str(", ");
        }
        elements.push_str("for=");
        elements.push_str(&node(hop.trim()));
        if index > 0 {
            continue;
        }
        if let Some(host) = text(X_FORWARDED_HOST) {
            elements.push_str(";host=");
            elements.push_str(&quoted(host));
        }
        if let Some(proto) = text(X_FORWARDED_PROTO) {
            elements.push_str(";proto=");
            elements.push_str(proto);
        }
    }
    HeaderValue::try_from(elements).ok()
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
fn request_id() -> String {
    uuid::Builder::from_random_bytes(rand::random())
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(given: &[(&'static str, &'static str)], peer: &str) -> Vec<(String, String)> {
        let facts = Facts {
            peer: peer.parse().unwrap(),
            called: "hello.default.localhost:8080",
            is_secure: false,
            is_default_route: false,
        };
        prepared_with(given, &facts)
    }

    fn prepared_with(given: &[(&'static str, &'static str)], facts: &Facts<'_>) -> Vec<(String, String)> {
        let pairs = given
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        prepare(&mut headers, facts);
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
        let facts = Facts {
            peer: "192.0.2.9".parse().unwrap(),
            called: "shop.example",
            is_secure: true,
            is_default_route: true,
        };
        let given = [("knative-serving-tag", "none"), ("x-request-id", "mine")];
        assert_eq!(
            prepared_with(&given, &facts),
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
