//! TLS to servers: they must be vouched for by an authority that this machine trusts.

use super::error::ConnectError;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The authorities, read with the first connection that needs them: those of the system, or of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` where they are set.
#[derive(Default)]
pub(crate) struct Tls(OnceCell<Arc<ClientConfig>>);

impl Tls {
    /// Authorities that are known already.
    #[cfg(test)]
    pub(crate) fn trusting(roots: RootCertStore) -> Self {
        Self(OnceCell::new_with(config(roots).ok()))
    }

    /// Makes sure that the server at the other end is `host`.
    pub(super) async fn secure(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let config = self.0.get_or_try_init(read).await?;
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::from(address),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::NoHost)?,
        };
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(name, stream).await.map_err(ConnectError::Tls)
    }
}

async fn read() -> Result<Arc<ClientConfig>, ConnectError> {
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let found = found.map_err(|error| ConnectError::Setup(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    // Some of a system's are odd; those that are not are good for all the others.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        let why =
            why.unwrap_or_else(|| "install the package ca-certificates, or set SSL_CERT_FILE".to_owned());
        return Err(ConnectError::Setup(format!(
            "this machine trusts no certificate authority: {why}"
        )));
    }
    config(roots).map_err(|error| ConnectError::Setup(error.to_string()))
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
