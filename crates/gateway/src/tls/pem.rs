//! A certificate as text, made ready for handshakes.

use kittiwake_core::routing_table::Certificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// Certificates of a chain; more are not looked at.
const CHAIN_MAX: usize = 16;
/// Names of one certificate; more are not looked at.
const NAMES_MAX: usize = 1000;

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) source: Certificate,
    pub(crate) key: Arc<CertifiedKey>,
    /// The DNS names it is for, lower case.
    pub(crate) names: Vec<Box<str>>,
    /// Unix time from which on it is good, in seconds.
    pub(crate) not_before: i64,
    /// Unix time at which it expires, in seconds.
    pub(crate) not_after: i64,
}

/// Why it cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The chain is no PEM, or has no certificate in it.
    #[error("the chain holds no certificate in PEM; it begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// The key is no PEM, or has no key in it.
    #[error("there is no private key in PEM; it begins with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    /// The first certificate is not X.509.
    #[error("the certificate is not X.509")]
    NotX509,
    /// The key is of another certificate, or of a kind that is not supported.
    #[error("the key does not fit the certificate")]
    Unfit(#[source] rustls::Error),
}

/// Makes a certificate ready.
pub(crate) fn load(source: &Certificate) -> Result<Loaded, CertificateError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&source.chain)
        .take(CHAIN_MAX)
        .collect::<Result<_, _>>()
        .map_err(|_| CertificateError::NoCertificate)?;
    let first = chain.first().ok_or(CertificateError::NoCertificate)?;
    let (_, parsed) = parse_x509_certificate(first).map_err(|_| CertificateError::NotX509)?;
    let names = parsed
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|names| {
            let names = names.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
                _ => None,
            });
            names.take(NAMES_MAX).collect()
        })
        .unwrap_or_default();
    let not_before = parsed.validity().not_before.timestamp();
    let not_after = parsed.validity().not_after.timestamp();
    let key = PrivateKeyDer::from_pem_slice(&source.key).map_err(|_| CertificateError::NoKey)?;
    let key = CertifiedKey::from_der(chain, key, &super::provider()).map_err(CertificateError::Unfit)?;
    Ok(Loaded {
        source: source.clone(),
        key: Arc::new(key),
        names,
        not_before,
        not_after,
    })
}
