//! Which token servers are given a password.

use super::is_loopback;
use reqwest::Url;

/// Whether `realm` may have the credentials of `registry`. With HTTPS a registry's word is enough, as with docker. Plain
/// HTTP is for registries that are spoken to in plain HTTP themselves, and only towards hosts that the operator exposed
/// to that anyway: the registry, this machine, and what is listed as insecure.
pub(crate) fn is_trusted(realm: &Url, registry: &str, insecure: &[String]) -> bool {
    let listed = |name: &str| insecure.iter().any(|entry| entry.eq_ignore_ascii_case(name));
    match (realm.scheme(), realm.host_str()) {
        ("https", Some(_)) => true,
        ("http", Some(host)) if is_loopback(registry) || listed(registry) => {
            let port = realm.port_or_known_default().unwrap_or_default();
            is_loopback(host)
                || host.eq_ignore_ascii_case(super::host(registry))
                || listed(&format!("{host}:{port}"))
                || (realm.port().is_none() && listed(host))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_over_plain_http_only_where_it_was_allowed() {
        let insecure = [
            "lan:5000".to_owned(),
            "auth.lan".to_owned(),
            "[fd00::1]:5000".to_owned(),
        ];
        for (registry, realm, wanted) in [
            ("ghcr.io", "https://auth.example/token", true),
            ("ghcr.io", "http://ghcr.io/token", false),
            ("ghcr.io", "http://localhost/token", false),
            ("ghcr.io", "http://auth.lan/token", false),
            ("localhost:5000", "http://evil.example/token", false),
            ("localhost:5000", "http://localhost.evil.example/token", false),
            ("localhost:5000", "http://localhost@evil.example/token", false),
            ("localhost:5000", "http://169.254.169.254/token", false),
            ("localhost:5000", "http://localhost:5001/token", true),
            ("localhost:5000", "http://127.0.0.1:5001/token", true),
            ("localhost:5000", "http://auth.lan/token", true),
            ("localhost:5000", "http://auth.lan:81/token", false),
            ("lan:5000", "http://lan:5001/token", true),
            ("lan:5000", "http://LAN:5000/token", true),
            ("lan:5000", "http://evil.example/token", false),
            ("[fd00::1]:5000", "http://[fd00::1]:5001/token", true),
            ("localhost:5000", "file:///etc/passwd", false),
        ] {
            let url = Url::parse(realm).unwrap();
            assert_eq!(
                is_trusted(&url, registry, &insecure),
                wanted,
                "{registry} {realm}"
            );
        }
    }
}
