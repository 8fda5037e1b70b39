//! TLS: which certificate a client gets, and where certificates come from.
//!
//! Three sources, in this order where several know a name: the routing table (Secrets of users), what was issued by
//! itself (ACME), and files. What cannot be used is warned about and leaves the last good one of its place in use. An expired certificate
//! is served, with a warning: a client that checks refuses it and says why, which no refused handshake does.

mod certificates;
mod files;
mod pem;

pub use files::{CertificateFiles, FilesError};
pub use pem::CertificateError;

pub(crate) use certificates::Certificates;
pub(crate) use files::Files;
pub(crate) use pem::load;

use crate::acme::Issued;
use arc_swap::ArcSwapOption;
use kittiwake_core::routing_table::RoutingTable;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;

/// How often the files are read again. Kubelet and cert-manager replace files rarely; a minute late is early.
const FILES_PERIOD: Duration = Duration::from_secs(10);
/// How often the dates of certificates are looked at.
const DATES_PERIOD: Duration = Duration::from_secs(12 * 60 * 60);

/// Speaks TLS with these certificates: 1.2 and 1.3, HTTP/2 or HTTP/1.1 by ALPN (RFC 7301), the client's choice first.
pub(crate) fn acceptor(certificates: &Arc<Certificates>) -> Result<TlsAcceptor, rustls::Error> {
    Ok(TlsAcceptor::from(Arc::new(server_config(
        certificates,
        &[b"h2", b"http/1.1"],
    )?)))
}

fn server_config(
    certificates: &Arc<Certificates>,
    protocols: &[&[u8]],
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificates) as _);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes over the certificates of the routing table, of the files and of the authority whenever they change, and the
/// fingerprint by which challenges are answered.
pub(crate) async fn follow(
    certificates: Arc<Certificates>,
    mut files: Files,
    mut routes: watch::Receiver<Arc<RoutingTable>>,
    mut issued: watch::Receiver<Arc<Issued>>,
    thumbprint: Arc<ArcSwapOption<Box<str>>>,
) {
    let mut reading = tokio::time::interval(FILES_PERIOD);
    reading.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut dates = tokio::time::interval(DATES_PERIOD);
    dates.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was just loaded was looked at.
    dates.reset();
    routes.mark_changed();
    issued.mark_changed();
    let mut issued_ended = false;
    loop {
        tokio::select! {
            changed = routes.changed() => {
                if changed.is_err() {
                    // The controllers are gone; the last table stays good.
                    return std::future::pending().await;
                }
                let table = Arc::clone(&routes.borrow_and_update());
                certificates.set_routed(table.certificates());
            }
            changed = issued.changed(), if !issued_ended => {
                issued_ended = changed.is_err();
                let issued = Arc::clone(&issued.borrow_and_update());
                thumbprint.store(issued.thumbprint.clone().map(Arc::new));
                certificates.set_issued(issued.certificates.iter().map(|(host, one)| (&**host, one)));
            }
            _ = reading.tick(), if !files.is_empty() => {
                let read = files.read_again().await;
                for (path, certificate) in read {
                    certificates.set_file(&path, &certificate);
                }
            }
            _ = dates.tick() => certificates.warn_of_dates(),
        }
    }
}
