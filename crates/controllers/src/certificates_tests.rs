//! Tables for certificates in Secrets.

use super::*;
use k8s_openapi::ByteString;
use std::collections::BTreeMap;

fn pair(host: &str, year: i32) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 6, 7);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn secret(chain: &str, key: &str) -> Arc<Secret> {
    let data = [(CHAIN, chain), (KEY, key)]
        .map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())));
    Arc::new(Secret {
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    })
}

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn wrong(secret: Option<Arc<Secret>>, host: &str) -> Option<String> {
    let key = ObjectKey::new("ns", "s");
    Certificates::default().find(&key, secret, host, now()).wrong
}

#[test]
fn a_certificate_is_for_its_hosts_until_it_expires() {
    let (chain, key) = pair("*.example.com", 2031);
    assert_eq!(wrong(Some(secret(&chain, &key)), "a.example.com"), None);
    let (old, old_key) = pair("a.example.com", 2029);
    let (_, other_key) = pair("a.example.com", 2031);
    for (secret, host, wanted) in [
        (None, "a.example.com", "secret \"s\" not found"),
        (
            Some(secret(&chain, &key)),
            "a.b.example.com",
            "secret \"s\": the certificate in tls.crt is not for \"a.b.example.com\"",
        ),
        (
            Some(secret(&old, &old_key)),
            "a.example.com",
            "secret \"s\": tls.crt: the certificate expired at 2029-06-07T00:00:00Z",
        ),
        (
            Some(secret(&chain, &other_key)),
            "a.example.com",
            "secret \"s\": tls.key is not the key of the certificate in tls.crt",
        ),
        (
            Some(secret("", &key)),
            "a.example.com",
            "secret \"s\": it has no tls.crt; make it with kubectl create secret tls",
        ),
        (
            Some(secret("nonsense", &key)),
            "a.example.com",
            "secret \"s\": tls.crt holds no certificate",
        ),
    ] {
        assert_eq!(wrong(secret, host).as_deref(), Some(wanted));
    }
    assert!(
        wrong(Some(secret(&chain, "nonsense")), "a.example.com")
            .unwrap()
            .contains("tls.key holds no private key")
    );
}

#[test]
fn the_last_good_one_stays_until_it_expires() {
    let certificates = Certificates::default();
    let key = ObjectKey::new("ns", "s");
    let (chain, private) = pair("a.example.com", 2031);
    let good = secret(&chain, &private);
    assert!(
        certificates
            .find(&key, Some(good), "a.example.com", now())
            .certificate
            .is_some()
    );
    let bad = secret("nonsense", &private);
    let found = certificates.find(&key, Some(Arc::clone(&bad)), "a.example.com", now());
    assert!(found.certificate.is_some() && found.wrong.is_some());
    let later = "2032-01-01T00:00:00Z".parse().unwrap();
    assert!(
        certificates
            .find(&key, Some(bad), "a.example.com", later)
            .certificate
            .is_none()
    );
}

#[test]
fn the_next_end_is_known() {
    let certificates = Certificates::default();
    let key = ObjectKey::new("ns", "s");
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    assert_eq!(certificates.next_end(now()), Duration::MAX, "there is none");
    for (host, year) in [("a.example.com", 2031), ("b.example.com", 2030)] {
        let (chain, private) = pair(host, year);
        certificates.find(&key, Some(secret(&chain, &private)), host, now());
    }
    assert_eq!(certificates.next_end(now()), LOOK_MAX, "far away");
    let soon = at("2030-06-06T23:59:00Z");
    assert_eq!(certificates.next_end(soon), Duration::from_secs(60));
    // The one that has ended is not waited for again.
    assert_eq!(certificates.next_end(at("2030-06-07T00:00:00Z")), LOOK_MAX);
}

#[test]
fn tags_have_knatives_numbers() {
    // The number that Go's hash/adler32 documents for this text.
    assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
}
