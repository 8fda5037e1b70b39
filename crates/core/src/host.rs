//! Host names as the routing table keys them.

use std::borrow::Cow;

/// Longest host name of DNS, in bytes (RFC 1035 §2.3.4).
pub const HOST_BYTES_MAX: usize = 253;

/// Brings the value of a `Host` header (or a request target's authority) to the form in which the routing table
/// keys hosts: no port, no trailing dot, lower case. `None` when it cannot name a host.
#[must_use]
pub fn normalize_host(authority: &str) -> Option<Cow<'_, str>> {
    let host = if authority.starts_with('[') {
        authority.split_inclusive(']').next()?
    } else {
        authority.rsplit_once(':').map_or(authority, |(host, _port)| host)
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return None;
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_case_and_trailing_dot() {
        for (given, wanted) in [
            ("hello.default.localhost", Some("hello.default.localhost")),
            ("hello.default.localhost:8080", Some("hello.default.localhost")),
            ("Hello.Default.LOCALHOST.:80", Some("hello.default.localhost")),
            ("[::1]:8080", Some("[::1]")),
            ("", None),
            (":80", None),
            (".", None),
        ] {
            assert_eq!(normalize_host(given).as_deref(), wanted, "{given:?}");
        }
        assert_eq!(normalize_host(&"a".repeat(254)), None);
    }
}
