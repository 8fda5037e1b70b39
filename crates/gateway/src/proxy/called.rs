//! What the requests of one connection to one authority have in common. Nearly all of a connection's requests name the
//! same authority, so this is worked out for the first of them and kept.

use super::{headers, host};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri, Version};
use kittiwake_core::host::normalize_host;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Called {
    /// Host and port, as the client wrote them.
    pub(crate) authority: HeaderValue,
    /// The host in the form in which routes are found.
    pub(crate) name: Box<str>,
    /// Whether it came with TLS.
    pub(crate) is_secure: bool,
    /// The caller's address, as `X-Forwarded-For` has it.
    pub(crate) peer: HeaderValue,
    /// `Forwarded` of a request that no proxy before us has passed on.
    pub(crate) forwarded: HeaderValue,
}

impl Called {
    /// A call of `authority` by `peer`.
    ///
    /// # Errors
    /// Why nothing can be called so.
    pub(crate) fn new(authority: &str, peer: IpAddr, is_secure: bool) -> Result<Self, &'static str> {
        const UNNAMEABLE: &str = "the host is empty or too long";
        let name = normalize_host(authority).ok_or(UNNAMEABLE)?;
        let peer = peer.to_canonical().to_string();
        let forwarded = headers::forwarded(&peer, Some(authority), Some(headers::scheme(is_secure)));
        // They were read from a header, and addresses are plain text.
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| UNNAMEABLE);
        Ok(Self {
            authority: value(authority)?,
            name: name.into(),
            is_secure,
            peer: value(&peer)?,
            forwarded: value(&forwarded)?,
        })
    }

    /// The authority as text.
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }
}

/// That of a connection's last request.
#[derive(Debug, Default)]
pub(crate) struct LastCalled(Mutex<Option<Arc<Called>>>);

impl LastCalled {
    /// That of a request: the last one where it names the same authority, once and alone.
    ///
    /// # Errors
    /// Why the request is for no host.
    pub(crate) fn of(
        &self,
        (version, target, headers): (Version, &Uri, &HeaderMap),
        peer: IpAddr,
        is_secure: bool,
    ) -> Result<Arc<Called>, &'static str> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(last), Some(named)) = (&*last, named_once(target, headers))
            && last.authority.as_bytes() == named
        {
            return Ok(Arc::clone(last));
        }
        let authority = host::authority(version, target, headers)?;
        let called = Arc::new(Called::new(&authority, peer, is_secure)?);
        *last = Some(Arc::clone(&called));
        Ok(called)
    }
}

/// What a request names as its authority, where it does so in one place only.
fn named_once<'a>(target: &'a Uri, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let mut hosts = headers.get_all(HOST).iter();
    match (target.authority(), hosts.next(), hosts.next()) {
        (None, Some(host), None) => Some(host.as_bytes()),
        (Some(authority), None, None) => Some(authority.as_str().as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_change_its_host_and_never_hides_a_wrong_one() {
        let last = LastCalled::default();
        let called = |target: &'static str, hosts: &[&'static str]| {
            let headers = hosts.iter().map(|host| (HOST, HeaderValue::from_static(host)));
            let head = (
                Version::HTTP_11,
                &Uri::from_static(target),
                &headers.collect::<HeaderMap>(),
            );
            last.of(head, "192.0.2.9".parse().unwrap(), false)
        };
        let first = called("/", &["A.localhost:80"]).unwrap();
        assert_eq!(
            (first.authority(), &*first.name),
            ("A.localhost:80", "a.localhost")
        );
        assert_eq!(
            first.forwarded,
            "for=192.0.2.9;host=\"A.localhost:80\";proto=http"
        );
        assert!(Arc::ptr_eq(&first, &called("/b", &["A.localhost:80"]).unwrap()));
        assert!(Arc::ptr_eq(
            &first,
            &called("http://A.localhost:80/b", &[]).unwrap()
        ));
        for (target, hosts) in [
            ("/", &["A.localhost:80", "A.localhost:80"][..]),
            ("/", &["A.localhost:80", "b"]),
            ("/", &["a b"]),
            ("/", &[]),
        ] {
            called(target, hosts).unwrap_err();
        }
        let other = called("http://b.localhost/", &["A.localhost:80"]).unwrap();
        assert_eq!(&*other.name, "b.localhost", "the target counts");
        assert_eq!(
            &*called("/", &["a.localhost:80"]).unwrap().name,
            "a.localhost",
            "as it was written"
        );
    }
}
