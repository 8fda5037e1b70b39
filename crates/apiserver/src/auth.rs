//! Who may do what: authentication, roles, tokens of ServiceAccounts and the audit log.
//!
//! ```text
//!  request from a socket → guard: who (certificate, token) → as whom (impersonation) → may they (rbac) → handlers
//!                               ↘ audit log                                             ↑ index ⇐ watches of roles
//! ```
//!
//! What runs in this process uses [`crate::Handle::router`] and is the administrator without credentials; what comes
//! from a socket goes through [`crate::Handle::guarded`].

pub(crate) mod attributes;
pub mod audit;
mod authentication;
mod certificate;
pub(crate) mod default_accounts;
pub(crate) mod guard;
mod identity;
mod impersonation;
mod jwt;
pub mod oidc;
pub(crate) mod rbac;
pub(crate) mod reviews;
pub(crate) mod service_account;
mod token_file;
pub mod x509;

pub use certificate::Peer;
pub use identity::{ADMINISTRATOR, ANONYMOUS, AUTHENTICATED, Identity, MASTERS, UNAUTHENTICATED};
pub use rbac::bootstrap::WORKERS;
pub use token_file::TokenFile;

use certificate::Certificates;
use kittiwake_core::clock::Clock;
use kittiwake_store::ObjectStore;
use rbac::index::Rbac;
use rustls::pki_types::CertificateDer;
use service_account::ServiceAccounts;
use std::sync::Arc;

/// Who is believed, and what is written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Authorities that sign client certificates.
    pub client_authorities: Vec<CertificateDer<'static>>,
    /// Static tokens.
    pub tokens: TokenFile,
    /// The key of ServiceAccounts' tokens; `None`: a new one, so that tokens end with the server.
    pub service_account_key: Option<PrivateKey>,
    /// An OpenID Connect issuer.
    pub oidc: Option<oidc::Config>,
    /// The audit log; `None` for none.
    pub audit: Option<audit::Config>,
    /// Whether everybody who reaches a guarded listener is the administrator. Only for loopback.
    pub everyone_is_administrator: bool,
}

/// A private key: PKCS#8 in DER. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Vec<u8>);

impl PrivateKey {
    /// A key from its PKCS#8 DER.
    #[must_use]
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(der)
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// The state of it all.
pub(crate) struct Auth {
    pub rbac: Rbac,
    pub service_accounts: ServiceAccounts,
    pub audit: Option<Arc<audit::Log>>,
    certificates: Certificates,
    tokens: TokenFile,
    oidc: Option<oidc::Issuer>,
    everyone_is_administrator: bool,
}

impl Auth {
    /// # Errors
    /// When a setting cannot be used; the message says which.
    pub(crate) fn new(config: &Config, store: ObjectStore, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let key = config.service_account_key.as_ref().map(|key| key.0.as_slice());
        let audit = config.audit.clone().map(|config| {
            let path = config.path.display().to_string();
            audit::Log::open(config)
                .map_err(|error| format!("the audit log {path} cannot be opened: {error}"))
        });
        Ok(Self {
            rbac: Rbac::new(store),
            service_accounts: ServiceAccounts::new(key)
                .map_err(|error| format!("the key of ServiceAccounts' tokens cannot be used: {error}"))?,
            audit: audit.transpose()?.map(Arc::new),
            certificates: Certificates::new(&config.client_authorities)
                .map_err(|error| format!("the authority of client certificates cannot be used: {error}"))?,
            tokens: config.tokens.clone(),
            oidc: config
                .oidc
                .clone()
                .map(|config| oidc::Issuer::new(config, clock))
                .transpose()?,
            everyone_is_administrator: config.everyone_is_administrator,
        })
    }
}
