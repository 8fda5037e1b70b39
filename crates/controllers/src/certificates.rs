//! Certificates in Secrets of type `kubernetes.io/tls`: which Secret is for a host, and whether what it holds can be
//! served. One that cannot is kept out; the last good one stays until it expires.

use crate::context::Context;
use crate::object::{Meta, ObjectKey};
use crate::route::tls::CertificateState;
use crate::route::url::Naming;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kittiwake_api::serving::Route;
use kittiwake_core::routing_table::Certificate;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Key of the chain in a Secret.
const CHAIN: &str = "tls.crt";
/// Key of the private key in a Secret.
const KEY: &str = "tls.key";
/// Hosts of which is remembered what their Secret held. All are forgotten when there are more.
const REMEMBERED_MAX: usize = 65_536;

/// A certificate that can be served.
#[derive(Debug, Clone)]
struct Good {
    certificate: Certificate,
    /// Seconds since 1970.
    not_after: i64,
}

/// Longest time between two looks at which certificates have expired.
const LOOK_MAX: Duration = Duration::from_secs(60 * 60);

/// What the Secrets of hosts held.
#[derive(Default)]
pub struct Certificates {
    by_host: Mutex<HashMap<(ObjectKey, String), Known>>,
}

struct Known {
    secret: Arc<Secret>,
    read: Result<Good, String>,
    last_good: Option<Good>,
}

/// What a Secret holds for a host.
pub struct Found {
    /// What to serve, if anything.
    pub certificate: Option<Certificate>,
    /// What is wrong with the Secret.
    pub wrong: Option<String>,
}

impl Certificates {
    /// What the Secret `key` holds for `host`.
    pub fn find(&self, key: &ObjectKey, secret: Option<Arc<Secret>>, host: &str, now: Timestamp) -> Found {
        let mut known = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (key.clone(), host.to_owned());
        let Some(secret) = secret.filter(|secret| !secret.is_being_deleted()) else {
            known.remove(&at);
            return Found {
                certificate: None,
                wrong: Some(format!("secret {:?} not found", key.name)),
            };
        };
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        let entry = match known.remove(&at) {
            Some(entry) if Arc::ptr_eq(&entry.secret, &secret) => entry,
            before => {
                let read = read(&secret, host);
                let last_good = read
                    .as_ref()
                    .ok()
                    .cloned()
                    .or(before.and_then(|before| before.last_good));
                Known {
                    secret,
                    read,
                    last_good,
                }
            }
        };
        let is_current = |good: &&Good| good.not_after > now.as_second();
        let found = Found {
            certificate: entry
                .last_good
                .as_ref()
                .filter(is_current)
                .map(|good| good.certificate.clone()),
            wrong: match &entry.read {
                Err(why) => Some(format!("secret {:?}: {why}", key.name)),
                Ok(good) if !is_current(&good) => Some(format!(
                    "secret {:?}: {CHAIN}: the certificate expired at {}",
                    key.name,
                    Timestamp::from_second(good.not_after).unwrap_or_default()
                )),
                Ok(_) => None,
            },
        };
        known.insert(at, entry);
        found
    }

    /// After how long the next one of those that were found expires: what is served then differs, though nothing was
    /// written. At most [`LOOK_MAX`], as the wall clock may be set; never where there is none.
    pub fn next_end(&self, now: Timestamp) -> Duration {
        let known = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = known.values().filter_map(|known| known.last_good.as_ref());
        let left = ends.map(|good| good.not_after.saturating_sub(now.as_second()));
        left.filter_map(|left| u64::try_from(left).ok().filter(|left| *left > 0))
            .min()
            .map_or(Duration::MAX, |left| Duration::from_secs(left).min(LOOK_MAX))
    }
}

/// The state of the certificate of a Route's host, or of that of a tag of it.
#[must_use]
pub fn state(context: &Context, route: &Route, host: &str, tag: Option<&str>) -> CertificateState {
    let settings = context.settings();
    let naming = Naming {
        config: &context.config,
        settings: &settings,
        kept_inside: &|_, _| false,
    };
    let namespace = context.stores.namespaces.by_key(&ObjectKey::new(
        "",
        route.metadata.namespace.as_deref().unwrap_or_default(),
    ));
    let names = secrets_of_route(route, host, tag, namespace.as_deref(), naming);
    let key = ObjectKey::of(route);
    of_secrets(context, &key, &names, host)
}

/// The state of the certificate of a host that may be in any of the Secrets `names` beside `key`.
#[must_use]
pub fn of_secrets(context: &Context, key: &ObjectKey, names: &[String], host: &str) -> CertificateState {
    let name = names.last().cloned().unwrap_or_default();
    if context.config.https_external_port.is_none() {
        return CertificateState::Missing {
            name,
            why: "this platform does not listen for TLS (--https-listen)".to_owned(),
        };
    }
    let mut why = None;
    for name in names {
        let key = key.sibling(name.as_str());
        let secret = context.stores.secrets.by_key(&key);
        let exists = secret.is_some();
        let found = context.certificates.find(&key, secret, host, context.now());
        match found.wrong {
            None => return CertificateState::Ready,
            Some(wrong) if exists || why.is_none() => why = Some(wrong),
            Some(_) => {}
        }
    }
    CertificateState::Missing {
        name,
        why: why.unwrap_or_default(),
    }
}

/// The Secrets that may hold the certificate of a Route's host, those to look at first in front: the tag's own, the
/// namespace's, the Route's (`route-<uid>`).
#[must_use]
pub fn secrets_of_route(
    route: &Route,
    host: &str,
    tag: Option<&str>,
    namespace: Option<&Namespace>,
    naming: Naming<'_>,
) -> Vec<String> {
    let own = format!("route-{}", route.uid_str());
    let mut names = Vec::new();
    if let Some(tag) = tag {
        names.push(format!("{own}-{}", adler32(tag.as_bytes())));
    }
    let nothing = Default::default();
    let labels = namespace
        .and_then(|namespace| namespace.metadata.labels.as_ref())
        .unwrap_or(&nothing);
    let wildcard = naming.settings.network.wildcard_namespaces.as_ref();
    if wildcard.is_some_and(|chosen| chosen.contain(labels))
        && let Some((_, domain)) = host.split_once('.')
    {
        names.push(domain.to_owned());
    }
    names.push(own);
    names
}

/// Adler-32, with which Knative tells the certificates of tags apart.
fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    (b << 16) | a
}

/// Reads what a Secret holds for a host.
fn read(secret: &Secret, host: &str) -> Result<Good, String> {
    let data = |key: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map(|bytes| bytes.0.clone())
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| format!("it has no {key}; make it with kubectl create secret tls"))
    };
    let (chain_pem, key_pem) = (data(CHAIN)?, data(KEY)?);
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{CHAIN} is not PEM: {error:?}"))?;
    let first = chain
        .first()
        .ok_or_else(|| format!("{CHAIN} holds no certificate"))?
        .clone()
        .into_owned();
    let key = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|error| format!("{KEY} holds no private key: {error:?}"))?;
    let key = any_supported_type(&key).map_err(|error| format!("{KEY} cannot be used: {error}"))?;
    let parsed =
        ParsedCertificate::try_from(&first).map_err(|error| format!("{CHAIN} is no certificate: {error}"))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no host name"))?;
    rustls::client::verify_server_name(&parsed, &name)
        .map_err(|_| format!("the certificate in {CHAIN} is not for {host:?}"))?;
    let owned = chain.into_iter().map(CertificateDer::into_owned).collect();
    match CertifiedKey::new(owned, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(format!("{KEY} is not the key of the certificate in {CHAIN}")),
    }
    let not_after = not_after(&first).ok_or_else(|| format!("{CHAIN}: the certificate has no end"))?;
    Ok(Good {
        certificate: Certificate {
            chain: chain_pem.into(),
            key: key_pem.into(),
        },
        not_after,
    })
}

/// When a certificate expires, in seconds since 1970 (RFC 5280, 4.1.2.5).
fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(der)?;
    let (_, tbs, _) = element(certificate)?;
    let mut rest = tbs;
    // The version may be left out; then serial, algorithm, issuer.
    if *rest.first()? == 0xa0 {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, after) = element(validity)?;
    let (tag, time, _) = element(after)?;
    let text = std::str::from_utf8(time).ok()?;
    let (year, rest) = match tag {
        // UTCTime: two digits stand for 1950 to 2049.
        0x17 => {
            let year: i16 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        0x18 => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let date = jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    Some(
        date.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_second(),
    )
}

/// Tag and content of a DER element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let bytes = usize::from(first & 0x7f);
        if !(1..=4).contains(&bytes) {
            return None;
        }
        let (length, rest) = rest.split_at_checked(bytes)?;
        let length = length
            .iter()
            .fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
