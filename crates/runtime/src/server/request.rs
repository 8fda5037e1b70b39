//! A request in the form in which it goes to an instance.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use kittiwake_core::revision::Protocol;

/// What is of the connection that a request came over, not of the request (RFC 9110 §7.6.1).
static OF_CONNECTION: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONNECTION,
];

/// Brings the head of a request to the form of a protocol. Says whether it asks for another protocol.
pub(super) fn prepare(parts: &mut http::request::Parts, protocol: Protocol) -> bool {
    let upgrade = (protocol == Protocol::Http1)
        .then(|| upgrade(&parts.headers))
        .flatten();
    strip(&mut parts.headers);
    let authority = parts.uri.authority().cloned();
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    match protocol {
        Protocol::Http1 => {
            parts.version = http::Version::HTTP_11;
            if !parts.headers.contains_key(header::HOST) {
                let host = authority.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
                let host = host.unwrap_or(HeaderValue::from_static("localhost"));
                parts.headers.insert(header::HOST, host);
            }
            parts.uri = Uri::from(path);
        }
        Protocol::H2c => {
            parts.version = http::Version::HTTP_2;
            let host = parts.headers.remove(header::HOST);
            let named = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = Some(authority.or(named).unwrap_or(Authority::from_static("localhost")));
            uri.path_and_query = Some(path);
            // All three parts are there, so it can be put together.
            if let Ok(uri) = Uri::from_parts(uri) {
                parts.uri = uri;
            }
        }
    }
    let upgrades = upgrade.is_some();
    if let Some(protocol) = upgrade {
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    upgrades
}

/// The protocol that a request wants to go over to.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    wants.then(|| headers.get(header::UPGRADE).cloned()).flatten()
}

/// Whether the connection is closed after this message.
pub(super) fn closes(headers: &HeaderMap) -> bool {
    options(headers).any(|option| option.eq_ignore_ascii_case("close"))
}

fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Takes away what is of the connection, `TE: trailers` aside.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let trailers = headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case("trailers"));
    let named: Vec<HeaderName> = options(headers)
        .filter_map(|option| option.parse().ok())
        .collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        headers.remove(name);
    }
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> http::request::Parts {
        let mut request = http::Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_is_of_the_connection_stays_there() {
        let mut given = parts(
            "http://a.localhost/b?c",
            &[
                ("connection", "close, x-hop"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("te", "gzip, trailers"),
                ("x-end", "2"),
            ],
        );
        assert!(!prepare(&mut given, Protocol::Http1));
        assert_eq!(given.uri, "/b?c");
        let names: Vec<_> = given
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(names.len(), 3);
        for wanted in [("te", "trailers"), ("x-end", "2"), ("host", "a.localhost")] {
            assert!(names.contains(&wanted), "{wanted:?}");
        }
    }

    #[test]
    fn an_upgrade_passes_and_http_2_has_an_authority() {
        let websocket = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("host", "a"),
        ];
        let mut given = parts("/chat", &websocket);
        assert!(prepare(&mut given, Protocol::Http1));
        assert_eq!(given.headers["connection"], "Upgrade");
        assert_eq!(given.headers["upgrade"], "websocket");
        let mut given = parts("/chat", &websocket);
        assert!(!prepare(&mut given, Protocol::H2c));
        assert_eq!(given.uri, "http://a/chat");
        assert!(given.headers.is_empty());
    }
}
