//! Client certificates: the chain up to the CA, and who is named in it
//! (k8s.io/apiserver/pkg/authentication/request/x509): the common name is the user, organizations are groups.

use super::identity::{CREDENTIAL_ID, Identity};
use super::x509;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The other end of a connection. The listener makes one for each connection and puts it into its requests.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Where it connects from.
    pub address: Option<SocketAddr>,
    /// The certificates that it showed and whose key it has, its own first.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// What certificates are believed by.
pub(crate) struct Certificates {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Certificates {
    /// Believes what these authorities signed; without any, nothing.
    ///
    /// # Errors
    /// When an authority is no certificate.
    pub(crate) fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, String> {
        if authorities.is_empty() {
            return Ok(Self { verifier: None });
        }
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone()).map_err(|error| error.to_string())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            verifier: Some(verifier),
        })
    }

    /// Who a peer is by its certificate: `None` without one. It is checked with each request, because it may run out
    /// while the connection stays open.
    ///
    /// # Errors
    /// When the certificate is not to be believed; for the log, not for the peer.
    pub(crate) fn identify(&self, peer: &Peer, now: Timestamp) -> Result<Option<Identity>, String> {
        let Some((own, others)) = peer.certificates.split_first() else {
            return Ok(None);
        };
        let verifier = self
            .verifier
            .as_ref()
            .ok_or("no authority for client certificates")?;
        let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
        verifier
            .verify_client_cert(own, others, UnixTime::since_unix_epoch(since_epoch))
            .map_err(|error| error.to_string())?;
        subject(own).map(Some)
    }
}

/// The user and the groups that a certificate names.
fn subject(certificate: &CertificateDer<'_>) -> Result<Identity, String> {
    let fields = x509::read(certificate).ok_or("the certificate cannot be read")?;
    let groups = fields.organizations;
    let name = fields.common_names.into_iter().next_back();
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or("the certificate has no common name")?;
    let digest: String = Sha256::digest(certificate)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut identity = Identity {
        name,
        groups,
        ..Identity::default()
    };
    identity
        .extra
        .insert(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={digest}")]);
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        der: CertificateDer<'static>,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test-ca");
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority {
            issuer: Issuer::new(params, key),
            der,
        }
    }

    fn client(authority: &Authority, usage: ExtendedKeyUsagePurpose, years: (i32, i32)) -> Peer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ann");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let der = params.signed_by(&key, &authority.issuer).unwrap().der().clone();
        Peer {
            address: None,
            certificates: Arc::new([der]),
        }
    }

    #[test]
    fn only_certificates_of_the_authority_that_are_valid_now_name_somebody() {
        let (ours, theirs) = (authority(), authority());
        let certificates = Certificates::new(std::slice::from_ref(&ours.der)).unwrap();
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let for_clients = ExtendedKeyUsagePurpose::ClientAuth;

        let good = client(&ours, for_clients.clone(), (2026, 2027));
        let ann = certificates.identify(&good, now).unwrap().unwrap();
        assert_eq!(
            (ann.name.as_str(), ann.groups.as_slice()),
            ("ann", &["dev".to_owned()][..])
        );
        assert!(ann.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert_eq!(certificates.identify(&Peer::default(), now), Ok(None));

        let server = ExtendedKeyUsagePurpose::ServerAuth;
        for (what, peer) in [
            ("foreign", client(&theirs, for_clients.clone(), (2026, 2027))),
            ("expired", client(&ours, for_clients.clone(), (2024, 2025))),
            ("not yet valid", client(&ours, for_clients, (2027, 2028))),
            ("for servers", client(&ours, server, (2026, 2027))),
            (
                "garbage",
                Peer {
                    address: None,
                    certificates: Arc::new([CertificateDer::from(vec![1, 2, 3])]),
                },
            ),
        ] {
            assert!(certificates.identify(&peer, now).is_err(), "{what}");
        }
        assert!(Certificates::new(&[]).unwrap().identify(&good, now).is_err());
    }
}
