//! Where a registry may send a request on to.
//!
//! Registries answer a request for a blob with a redirect to their storage, so redirects are followed; but a registry
//! must not use this server to reach what only this server can reach, nor take a request off TLS. `Authorization` stays
//! behind at a change of host, port or scheme: reqwest sees to that.

use super::is_loopback;
use reqwest::Url;
use reqwest::redirect::Policy;
use std::net::{IpAddr, Ipv6Addr};

/// Redirects that are followed for one request.
const REDIRECTS_MAX: usize = 5;

/// Why a redirect is not followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it redirects more than {REDIRECTS_MAX} times")]
    TooMany,
    #[error("it redirects from https to {0}, which is not followed")]
    Downgrade(String),
    #[error("it redirects to {0}, an address inside this server's network, which is not followed")]
    Inward(String),
}

/// The policy for manifests and blobs.
pub(crate) fn policy() -> Policy {
    Policy::custom(|attempt| match judge(attempt.previous(), attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(refused) => attempt.error(refused),
    })
}

/// Whether a request that went through `previous` may go on to `next`. Only addresses that are written out are known
/// to be inside: a name is resolved later, and whoever may name an image may name a registry by that name as well.
fn judge(previous: &[Url], next: &Url) -> Result<(), Refused> {
    if previous.len() > REDIRECTS_MAX {
        return Err(Refused::TooMany);
    }
    let Some(last) = previous.last() else {
        return Ok(());
    };
    if last.scheme() == "https" && next.scheme() != "https" {
        return Err(Refused::Downgrade(origin(next)));
    }
    let outside = previous
        .iter()
        .filter_map(Url::host_str)
        .any(|host| !is_loopback(host));
    if outside && next.host_str() != last.host_str() && next.host_str().is_some_and(is_inside) {
        return Err(Refused::Inward(origin(next)));
    }
    Ok(())
}

/// Scheme, host and port. The rest of a redirect is often a signature that opens the storage.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether a URL's host is written as this machine or as an address that the internet does not route.
fn is_inside(host: &str) -> bool {
    let ip = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    is_loopback(host)
        || ip.is_ok_and(|ip| match ip.to_canonical() {
            IpAddr::V4(ip) => {
                ip.is_private() || ip.is_link_local() || ip.is_loopback() || ip.is_unspecified()
            }
            IpAddr::V6(ip) => {
                ip.is_unique_local()
                    || ip.is_unicast_link_local()
                    || ip == Ipv6Addr::LOCALHOST
                    || ip.is_unspecified()
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(chain: &[&str]) -> Result<(), Refused> {
        let urls: Vec<_> = chain.iter().map(|url| Url::parse(url).unwrap()).collect();
        let (next, previous) = urls.split_last().unwrap();
        judge(previous, next)
    }

    #[test]
    fn storage_elsewhere_is_followed() {
        for chain in [
            ["https://ghcr.io/v2/", "https://storage.example/x?sig=1"],
            ["http://localhost:5000/v2/", "http://127.0.0.1:9000/x"],
            ["http://127.0.0.1:5000/v2/", "http://10.0.0.1/x"],
            ["http://10.0.0.1:5000/v2/", "http://10.0.0.1:9000/x"],
            ["http://10.0.0.1:5000/v2/", "https://storage.example/x"],
            ["http://registry.lan/v2/", "http://8.8.8.8/x"],
        ] {
            assert_eq!(judged(&chain), Ok(()), "{chain:?}");
        }
    }

    #[test]
    fn inward_and_downward_redirects_are_refused() {
        for inside in [
            "localhost:1",
            "a.localhost.",
            "127.0.0.1:10250",
            "2130706433",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:127.0.0.1]",
        ] {
            let next = format!("https://{inside}/x?sig=s3cret");
            let refused = judged(&["https://ghcr.io/v2/", &next]).unwrap_err();
            assert!(matches!(refused, Refused::Inward(_)), "{inside}");
            assert!(!refused.to_string().contains("s3cret"));
            let detour = ["http://localhost:5000/", "https://ghcr.io/", &next];
            assert!(judged(&detour).is_err(), "{inside}");
        }
        let refused = judged(&["https://ghcr.io/v2/", "http://ghcr.io/v2/"]).unwrap_err();
        assert_eq!(refused, Refused::Downgrade("http://ghcr.io".into()));
    }

    #[test]
    fn five_redirects_are_enough() {
        let url = "https://ghcr.io/v2/";
        assert_eq!(judged(&[url; REDIRECTS_MAX + 1]), Ok(()));
        assert_eq!(judged(&[url; REDIRECTS_MAX + 2]), Err(Refused::TooMany));
    }
}
