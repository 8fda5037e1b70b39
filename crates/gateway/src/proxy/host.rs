//! Which host a request is for.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri, Version};

/// The authority that a request names (host and port as the client wrote them), or why there is none.
///
/// The absolute form of an HTTP/1.1 target overrides the `Host` header (RFC 9112 §3.2.2); HTTP/2's `:authority` and a
/// `Host` beside it must not differ (RFC 9113 §8.3.1); a second `Host` is always wrong (RFC 9112 §3.2).
pub(crate) fn authority(version: Version, target: &Uri, headers: &HeaderMap) -> Result<String, &'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err("the request has more than one Host header");
    }
    let header = match header {
        Some(value) => {
            let text = value.to_str().map_err(|_| "the Host header is not text")?;
            Some(parse(text).ok_or("the Host header is not a host name")?)
        }
        None => None,
    };
    match (target.authority(), header) {
        (Some(target), header) => {
            let target = parse(target.as_str()).ok_or("the request target is not a host name")?;
            let differs = |header: Authority| !header.as_str().eq_ignore_ascii_case(target.as_str());
            if version == Version::HTTP_2 && header.is_some_and(differs) {
                return Err("the Host header and the request target name different hosts");
            }
            Ok(target.as_str().to_owned())
        }
        (None, Some(header)) => Ok(header.as_str().to_owned()),
        (None, None) => Err("the request has no Host header"),
    }
}

/// A host name or address with an optional port, and nothing else.
fn parse(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let has_host = !authority.host().is_empty();
    let port_is_right = authority.as_str().len() == authority.host().len() || authority.port_u16().is_some();
    (has_host && port_is_right && authority.as_str().bytes().all(plain)).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn one_host_and_only_one() {
        for (target, hosts, wanted) in [
            (
                "/",
                vec!["hello.default.localhost:8080"],
                Ok("hello.default.localhost:8080"),
            ),
            ("/", vec!["[::1]:80"], Ok("[::1]:80")),
            ("http://a.b/x", vec![], Ok("a.b")),
            ("http://a.b/x", vec!["A.b"], Ok("a.b")),
            (
                "http://a.b/x",
                vec!["other"],
                Err("the Host header and the request target name different hosts"),
            ),
            ("/", vec![], Err("the request has no Host header")),
            (
                "/",
                vec!["a", "a"],
                Err("the request has more than one Host header"),
            ),
            ("/", vec![""], Err("the Host header is not a host name")),
            ("/", vec!["a b"], Err("the Host header is not a host name")),
            ("/", vec!["user@host"], Err("the Host header is not a host name")),
            ("/", vec!["a/b"], Err("the Host header is not a host name")),
            ("/", vec!["a:port"], Err("the Host header is not a host name")),
            ("/", vec!["a:99999"], Err("the Host header is not a host name")),
            ("/", vec!["a,b"], Err("the Host header is not a host name")),
        ] {
            let headers = hosts
                .iter()
                .map(|host| (HOST, HeaderValue::from_static(host)))
                .collect();
            let found = authority(Version::HTTP_2, &target.parse().unwrap(), &headers);
            assert_eq!(found.as_deref(), wanted.as_ref().copied(), "{target} {hosts:?}");
        }
    }

    #[test]
    fn an_absolute_target_overrides_the_host_header_of_http1() {
        let headers = [(HOST, HeaderValue::from_static("other"))].into_iter().collect();
        let found = authority(Version::HTTP_11, &Uri::from_static("http://a.b:80/x"), &headers);
        assert_eq!(found.as_deref(), Ok("a.b:80"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_host_or_an_error(bytes in proptest::collection::vec(0x20u8..=0xff, 0..300)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = [(HOST, value)].into_iter().collect();
                if let Ok(found) = authority(Version::HTTP_11, &Uri::from_static("/"), &headers) {
                    proptest::prop_assert!(found.bytes().all(|byte| byte.is_ascii_graphic()));
                }
            }
        }
    }
}
